//! What a sidecar adds to requests and to responses, learnt from pairs.
//!
//! A proxy changes a message by what is the same every time: headers that it adds and takes away, and
//! the frame of TLS. So the length on the one side tells that on the other, but for values that are a
//! digit longer now and then. What is the same is not told; it shows as differences of length that
//! pairs have much oftener than strangers.

use hashbrown::HashMap;

use crate::decode::Size;

/// Differences of length that are kept of each direction.
const KEPT: usize = 128;
/// Pairs after which what was learnt counts half.
const MEMORY: u32 = 4_096;
/// Pairs that a difference needs before it is evidence, and the part of all pairs. Those that were made
/// wrongly have many differences, each of them seldom.
const FEWEST: u32 = 6;
const SHARE: u32 = 16;
/// How many times oftener pairs must have a difference than strangers, bits. Less is chance: that a
/// pair was chosen for a difference makes it a little more frequent by itself.
const LEAST: u32 = 2;
/// Pairs after which a direction is settled: one pair in so many is then enough to notice that a
/// difference changes.
const SETTLED: u32 = 512;
const SAMPLE: usize = 8;

/// Lengths of the two sides of one sidecar.
#[derive(Debug, Default)]
pub struct Sizes {
    request: Differences,
    response: Differences,
}

impl Sizes {
    /// Takes the lengths of pairs, in the order of their writing, downstream first, that were made by
    /// this evidence. Returns whether requests needed only a look.
    pub(super) fn learn(
        &mut self,
        pairs: impl Iterator<Item = (Size, Size)>,
        evidence: &Evidence,
    ) -> bool {
        let request_settled = self.request.is_settled(&evidence.request);
        let response_settled = self.response.is_settled(&evidence.response);
        let mut before: Option<Size> = None;
        for (index, (downstream, upstream)) in pairs.enumerate() {
            let sampled = index % SAMPLE == 0;
            let lengths = |down: Size| difference(down.request, upstream.request);
            if sampled || !request_settled {
                let stranger = before.map(lengths);
                self.request.take(lengths(downstream), stranger);
            }
            if let Some(pair) = responses(downstream, upstream)
                && (sampled || !response_settled)
            {
                let stranger = before.and_then(|before| responses(before, upstream));
                self.response.take(pair, stranger);
            }
            before = Some(downstream);
        }
        request_settled
    }

    /// What the differences tell now.
    pub(super) fn evidence(&self) -> Evidence {
        Evidence {
            request: self.request.evidence(),
            response: self.response.evidence(),
        }
    }
}

/// What is to be thought of a pair by its lengths.
#[derive(Debug)]
pub(super) struct Evidence {
    request: Expected,
    response: Expected,
}

impl Evidence {
    /// Whether nothing is known.
    pub(super) fn is_empty(&self) -> bool {
        self.request.differences.is_empty() && self.response.differences.is_empty()
    }

    /// Bits that speak against a pair of these lengths. What is not known is no evidence.
    pub(super) fn against(&self, downstream: Size, upstream: Size) -> u32 {
        let request = difference(downstream.request, upstream.request);
        let response = responses(downstream, upstream);
        self.request.against(request) + response.map_or(0, |both| self.response.against(both))
    }
}

/// Differences that pairs have, the commonest first, and the bits that speak for each.
#[derive(Debug)]
struct Expected {
    differences: Vec<(i32, u32)>,
    most: u32,
}

impl Expected {
    fn against(&self, difference: i32) -> u32 {
        let mut known = self.differences.iter();
        let found = known.find(|(one, _)| *one == difference);
        self.most - found.map_or(0, |(_, bits)| *bits)
    }
}

fn difference(downstream: u32, upstream: u32) -> i32 {
    upstream.wrapping_sub(downstream).cast_signed()
}

fn responses(downstream: Size, upstream: Size) -> Option<i32> {
    Some(difference(downstream.response?, upstream.response?))
}

/// How often a difference was seen.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    pairs: u32,
    strangers: u32,
}

#[derive(Debug, Default)]
struct Differences {
    seen: HashMap<i32, Seen>,
    all: Seen,
}

impl Differences {
    const fn is_settled(&self, known: &Expected) -> bool {
        self.all.pairs >= SETTLED && !known.differences.is_empty()
    }

    /// Takes a pair's difference, and one of an exchange and somebody else's.
    fn take(&mut self, pair: i32, strangers: Option<i32>) {
        if self.all.pairs >= MEMORY {
            self.fade();
        }
        if self.seen.len() >= KEPT {
            self.shed();
        }
        self.seen.entry(pair).or_default().pairs += 1;
        self.all.pairs += 1;
        if let Some(strangers) = strangers {
            self.all.strangers += 1;
            // Of differences that no pair has nothing needs to be known.
            if let Some(seen) = self.seen.get_mut(&strangers) {
                seen.strangers += 1;
            }
        }
    }

    fn fade(&mut self) {
        let fade = |seen: &mut Seen| {
            seen.pairs /= 2;
            seen.strangers /= 2;
        };
        fade(&mut self.all);
        self.seen.retain(|_, seen| {
            fade(seen);
            seen.pairs > 0
        });
    }

    /// Makes room by one pair less of each difference: whatever more than one pair in [`KEPT`] has stays
    /// (J. Misra and D. Gries, "Finding repeated elements", 1982).
    fn shed(&mut self) {
        self.seen.retain(|_, seen| {
            seen.pairs -= 1;
            seen.pairs > 0
        });
    }

    fn evidence(&self) -> Expected {
        let mut common: Vec<(u32, i32, u32)> = self
            .seen
            .iter()
            .filter(|(_, seen)| seen.pairs >= FEWEST.max(self.all.pairs / SHARE))
            .filter_map(|(difference, seen)| {
                let pairs = u64::from(seen.pairs) * u64::from(self.all.strangers + 1);
                let strangers = u64::from(seen.strangers + 1) * u64::from(self.all.pairs);
                let bits = pairs.checked_div(strangers)?.checked_ilog2()?;
                (bits >= LEAST).then_some((seen.pairs, *difference, bits))
            })
            .collect();
        common.sort_unstable_by_key(|(pairs, difference, _)| (u32::MAX - pairs, *difference));
        let differences = common
            .into_iter()
            .map(|(_, difference, bits)| (difference, bits));
        let differences: Vec<_> = differences.collect();
        let most = differences.iter().map(|(_, bits)| *bits).max();
        Expected {
            differences,
            most: most.unwrap_or(0),
        }
    }
}
