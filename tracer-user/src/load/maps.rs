//! The maps of an object that the agent reads: its loss counters and its ring.

use aya::Ebpf;
use aya::maps::{Map, MapData, MapError, PerCpuArray, RingBuf};

use super::LoadError;

/// Records taken in one go.
const BATCH: usize = 16_384;

/// The loss counters of an object: a slot for each reason.
pub(super) struct Losses(PerCpuArray<MapData, u64>);

/// The records of an object, and what it lost.
pub(super) struct Records {
    ring: RingBuf<MapData>,
    losses: Losses,
}

/// Takes a map of a loaded object.
pub(super) fn take<M>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, LoadError>
where
    M: TryFrom<Map, Error = MapError>,
{
    let map = ebpf.take_map(name).ok_or(LoadError::Missing(name))?;
    M::try_from(map).map_err(|source| LoadError::Map { name, source })
}

impl Losses {
    pub(super) fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, LoadError> {
        take(ebpf, name).map(Self)
    }

    /// A slot, summed over the CPUs. Unreadable counts as 0: the descriptor is ours and stays valid.
    pub(super) fn of(&self, slot: u32) -> u64 {
        self.0.get(&slot, 0).map_or(0, |cpus| cpus.iter().sum())
    }

    /// Whether the counters can be read with the capabilities of the calling thread.
    pub(super) fn readable(&self) -> bool {
        self.0.get(&0, 0).is_ok()
    }
}

impl Records {
    pub(super) fn take(
        ebpf: &mut Ebpf,
        ring: &'static str,
        losses: &'static str,
    ) -> Result<Self, LoadError> {
        Ok(Self {
            ring: take(ebpf, ring)?,
            losses: Losses::take(ebpf, losses)?,
        })
    }

    /// Hands over what the ring has; true when more may be waiting.
    pub(super) fn drain(&mut self, mut each: impl FnMut(&[u8])) -> bool {
        for _ in 0..BATCH {
            match self.ring.next() {
                Some(item) => each(&item),
                None => return false,
            }
        }
        true
    }

    /// Counter of one loss reason.
    pub(super) fn lost(&self, slot: u32) -> u64 {
        self.losses.of(slot)
    }
}
