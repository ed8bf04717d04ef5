//! Sets of a grid's cells: made thinner and thicker, taken apart into connected ones.

/// Which cells of a grid belong to something, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cells {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) set: Vec<bool>,
}

impl Cells {
    pub(super) fn new(width: usize, height: usize, set: Vec<bool>) -> Self {
        Self { width, height, set }
    }

    pub(super) fn count(&self) -> usize {
        self.set.iter().filter(|is_set| **is_set).count()
    }

    /// The cells around which all within `radius`, across and down, are in it. What lies outside of the grid is as its edge.
    pub(super) fn eroded(&self, radius: usize) -> Self {
        self.spread(radius, false)
    }

    /// All cells within `radius`, across and down, of one that is in it.
    pub(super) fn dilated(&self, radius: usize) -> Self {
        self.spread(radius, true)
    }

    /// Without what is thinner than twice the radius and a cell.
    pub(super) fn opened(&self, radius: usize) -> Self {
        self.eroded(radius).dilated(radius)
    }

    /// Lets the cells that are `value` grow by `radius`.
    fn spread(&self, radius: usize, value: bool) -> Self {
        let mut across = self.set.clone();
        for (from, to) in self
            .set
            .chunks_exact(self.width)
            .zip(across.chunks_exact_mut(self.width))
        {
            for (x, _) in from.iter().enumerate().filter(|(_, is)| **is == value) {
                let end = (x + radius + 1).min(self.width);
                to[x.saturating_sub(radius)..end].fill(value);
            }
        }
        let mut set = across.clone();
        for (y, row) in across.chunks_exact(self.width).enumerate() {
            let rows = y.saturating_sub(radius)..(y + radius + 1).min(self.height);
            for near in rows {
                let to = &mut set[near * self.width..][..self.width];
                for (to, from) in to.iter_mut().zip(row) {
                    if *from == value {
                        *to = value;
                    }
                }
            }
        }
        Self::new(self.width, self.height, set)
    }

    /// Its connected parts (4 neighbours), each the indices of its cells, in reading order of their first.
    pub(super) fn parts(&self) -> Vec<Vec<usize>> {
        let mut left = self.set.clone();
        let mut parts = Vec::new();
        for first in 0..left.len() {
            if !std::mem::take(&mut left[first]) {
                continue;
            }
            let mut part = vec![first];
            let mut next = 0;
            while let Some(cell) = part.get(next).copied() {
                next += 1;
                for near in self.neighbours(cell) {
                    if std::mem::take(&mut left[near]) {
                        part.push(near);
                    }
                }
            }
            parts.push(part);
        }
        parts
    }

    /// Those of `self` that are connected with one of `seeds` by way of `self`.
    pub(super) fn reached_from(&self, seeds: &Self) -> Self {
        let mut set = vec![false; self.set.len()];
        let mut open: Vec<usize> = (0..set.len())
            .filter(|cell| self.set[*cell] && seeds.set[*cell])
            .collect();
        open.iter().for_each(|cell| set[*cell] = true);
        while let Some(cell) = open.pop() {
            for near in self.neighbours(cell) {
                if self.set[near] && !std::mem::replace(&mut set[near], true) {
                    open.push(near);
                }
            }
        }
        Self::new(self.width, self.height, set)
    }

    /// The cells of a part.
    pub(super) fn of_part(&self, part: &[usize]) -> Self {
        let mut set = vec![false; self.set.len()];
        part.iter().for_each(|cell| set[*cell] = true);
        Self::new(self.width, self.height, set)
    }

    fn neighbours(&self, cell: usize) -> impl Iterator<Item = usize> + use<> {
        let (width, end) = (self.width, self.set.len());
        let x = cell % width;
        [
            (x > 0).then(|| cell - 1),
            (x + 1 < width).then_some(cell + 1),
            cell.checked_sub(width),
            (cell + width < end).then_some(cell + width),
        ]
        .into_iter()
        .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(rows: &[&str]) -> Cells {
        let set = rows.concat().bytes().map(|b| b == b'#').collect();
        Cells::new(rows[0].len(), rows.len(), set)
    }

    #[test]
    fn opening_takes_away_what_is_thin() {
        let found = drawn(&[
            "###....", //
            "###.#..", "######.", ".......",
        ])
        .opened(1);
        assert_eq!(found, drawn(&["###....", "###....", "###....", "......."]));
    }

    #[test]
    fn parts_touch_at_sides_alone() {
        let cells = drawn(&["##.#", "#.#.", "...."]);
        let parts = cells.parts();
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [3, 1, 1]);
        assert_eq!(cells.of_part(&parts[0]), drawn(&["##..", "#...", "...."]));
    }

    #[test]
    fn what_is_walled_in_is_not_reached() {
        let cells = drawn(&["#.#", "#..", "#.#"]);
        let seeds = drawn(&["...", "##.", "..."]);
        let reached = drawn(&["#..", "#..", "#.."]);
        assert_eq!(cells.reached_from(&seeds), reached);
    }
}
