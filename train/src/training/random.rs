//! Chance that can be repeated: a stream of numbers of its own for every purpose, epoch and place, whoever draws first.

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

/// The stream for `purpose` in a run of `seed`, at the two numbers given (an epoch and a place in it, where there are such).
///
/// Streams are independent of each other and of the order in which threads ask for them.
pub(crate) fn stream(seed: u64, purpose: &str, at: [u64; 2]) -> ChaCha8Rng {
    let mut key = [0; 32];
    let parts = [seed, hash(purpose.as_bytes()), at[0], at[1]];
    for (bytes, part) in key.chunks_exact_mut(8).zip(parts) {
        bytes.copy_from_slice(&part.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// FNV-1a, 64 bits: the same number for the same bytes on every machine and in every version.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn streams_repeat_and_differ() {
        let first = |seed, purpose, at| stream(seed, purpose, at).random::<u64>();
        let one = first(1, "order", [2, 3]);
        assert_eq!(one, first(1, "order", [2, 3]));
        for other in [
            first(2, "order", [2, 3]),
            first(1, "image", [2, 3]),
            first(1, "order", [3, 2]),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn the_hash_is_fnv() {
        // From the FNV authors' test vectors.
        assert_eq!(hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
