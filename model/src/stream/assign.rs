//! Who goes with whom: the pairs of two lists that fit best as a whole.

use pathfinding::{kuhn_munkres::kuhn_munkres, matrix::Matrix};

/// Pairs (row, column) that together have the highest sum of `weight`, none of them with a weight of 0 or less; by row.
pub(super) fn assign(
    rows: usize,
    columns: usize,
    weight: impl Fn(usize, usize) -> i64,
) -> Vec<(usize, usize)> {
    if rows == 0 || columns == 0 {
        return Vec::new();
    }
    let weights = Matrix::from_fn(rows, columns, |(row, column)| weight(row, column).max(0));
    let mut pairs: Vec<(usize, usize)> = if rows <= columns {
        kuhn_munkres(&weights).1.into_iter().enumerate().collect()
    } else {
        let (_, rows_chosen) = kuhn_munkres(&weights.transposed());
        let pairs = rows_chosen.into_iter().enumerate();
        pairs.map(|(column, row)| (row, column)).collect()
    };
    pairs.retain(|pair| weights[*pair] > 0);
    pairs.sort_unstable();
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The highest sum, by trying everything.
    fn best(weights: &[Vec<i64>], row: usize, free: u32) -> i64 {
        let Some(columns) = weights.get(row) else {
            return 0;
        };
        let alone = best(weights, row + 1, free);
        (0..columns.len())
            .filter(|column| free & (1 << column) != 0)
            .map(|column| columns[column] + best(weights, row + 1, free & !(1 << column)))
            .fold(alone, i64::max)
    }

    #[test]
    fn the_sum_counts_and_not_the_best_pair() {
        let weights = [[9, 8], [8, 1]];
        assert_eq!(
            assign(2, 2, |row, column| weights[row][column]),
            [(0, 1), (1, 0)]
        );
    }

    proptest! {
        #[test]
        fn no_other_pairs_are_better(
            weights in (0usize..6, 0usize..6).prop_flat_map(|(rows, columns)| {
                prop::collection::vec(prop::collection::vec(-3i64..20, columns), rows)
            })
        ) {
            let columns = weights.first().map_or(0, Vec::len);
            let pairs = assign(weights.len(), columns, |row, column| weights[row][column]);
            let sum: i64 = pairs.iter().map(|(row, column)| weights[*row][*column]).sum();
            prop_assert_eq!(sum, best(&weights, 0, u32::MAX));
            prop_assert!(pairs.iter().all(|(row, column)| weights[*row][*column] > 0));
            for (i, (row, column)) in pairs.iter().enumerate() {
                prop_assert!(pairs[i + 1..].iter().all(|(r, c)| r > row && c != column));
            }
        }
    }
}
