//! The anomalous regions of a mask, for AUPRO: 8-connected, as in MVTec's own evaluation.

/// Regions of one mask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Regions {
    /// For each pixel the size of its region in pixels; 0 where it is normal.
    pub(crate) sizes: Vec<u32>,
    /// How many regions there are.
    pub(crate) count: u64,
}

impl Regions {
    /// A picture of `pixels` normal pixels.
    pub(crate) fn none(pixels: usize) -> Self {
        Self {
            sizes: vec![0; pixels],
            count: 0,
        }
    }

    /// The regions of `mask`, which has `width` pixels a row.
    pub(crate) fn find(mask: &[bool], width: usize) -> Self {
        let mut regions = Self::none(mask.len());
        let mut seen = vec![false; mask.len()];
        let mut region = Vec::new();
        for start in 0..mask.len() {
            if !mask[start] || seen[start] {
                continue;
            }
            fill(mask, width, start, &mut seen, &mut region);
            for &pixel in &region {
                regions.sizes[pixel] = region.len() as u32;
            }
            regions.count += 1;
        }
        regions
    }
}

/// Collects in `region` every pixel that is connected to `start`, and marks it as seen.
fn fill(mask: &[bool], width: usize, start: usize, seen: &mut [bool], region: &mut Vec<usize>) {
    let height = mask.len() / width;
    region.clear();
    region.push(start);
    seen[start] = true;
    let mut done = 0;
    while done < region.len() {
        let (x, y) = (region[done] % width, region[done] / width);
        done += 1;
        for y in y.saturating_sub(1)..=(y + 1).min(height - 1) {
            for x in x.saturating_sub(1)..=(x + 1).min(width - 1) {
                let pixel = y * width + x;
                if mask[pixel] && !seen[pixel] {
                    seen[pixel] = true;
                    region.push(pixel);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regions(rows: &[&str]) -> Regions {
        let mask: Vec<bool> = rows.concat().bytes().map(|b| b == b'#').collect();
        Regions::find(&mask, rows[0].len())
    }

    #[test]
    fn diagonals_connect_and_edges_do_not_wrap() {
        let found = regions(&["#..#", ".#..", "#..#"]);
        assert_eq!(found.count, 3);
        assert_eq!(found.sizes, [3, 0, 0, 1, 0, 3, 0, 0, 3, 0, 0, 1]);
    }

    #[test]
    fn an_empty_mask_and_a_full_one() {
        assert_eq!(regions(&["...", "..."]), Regions::none(6));
        let full = regions(&["###", "###"]);
        assert_eq!((full.count, full.sizes), (1, vec![6; 6]));
    }
}
