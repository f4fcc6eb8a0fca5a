//! Whether one of several devices is much slower than the others.

use super::Device;

/// Pieces of work of each device after which paces are judged.
const JUDGED_AFTER: usize = 16;

/// A device is slow if the fastest is more than this many times as fast.
const SLOW: f64 = 2.0;

/// How fast devices work that take from the same work.
#[derive(Debug)]
pub struct Paces {
    devices: Vec<Pace>,
    told: bool,
}

#[derive(Debug)]
struct Pace {
    device: Device,
    pieces: usize,
    size: usize,
    seconds: f64,
}

// === impl Paces ===

impl Paces {
    /// Nothing is known of these yet.
    #[must_use]
    pub fn new(devices: impl IntoIterator<Item = Device>) -> Self {
        let pace = |device| Pace { device, pieces: 0, size: 0, seconds: 0.0 };
        Self { devices: devices.into_iter().map(pace).collect(), told: false }
    }

    /// How many devices there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.devices.len()
    }

    /// Notes a piece of work, by its size in any unit, of the device at a place.
    pub fn note(&mut self, place: usize, size: usize, seconds: f64) {
        let pace = &mut self.devices[place];
        pace.pieces += 1;
        pace.size += size;
        pace.seconds += seconds;
    }

    /// Words about a device that is much slower than the fastest; once, when it is known.
    pub fn slow_device(&mut self) -> Option<String> {
        if self.told || self.devices.iter().any(|pace| pace.pieces < JUDGED_AFTER) {
            return None;
        }
        let by_pace = |a: &&Pace, b: &&Pace| a.pace().total_cmp(&b.pace());
        let slowest = self.devices.iter().min_by(by_pace)?;
        let fastest = self.devices.iter().max_by(by_pace)?;
        let times = fastest.pace() / slowest.pace();
        if times <= SLOW {
            return None;
        }
        let (slow, fast) = (slowest.device, fastest.device);
        self.told = true;
        Some(format!("{slow} computes {times:.1} times slower than {fast}; is something else running on it?"))
    }
}

// === impl Pace ===

impl Pace {
    /// Size of the work done in a second.
    fn pace(&self) -> f64 {
        self.size as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_device_is_named_once_and_only_when_all_are_known() {
        let mut paces = Paces::new([Device::Cuda(0), Device::Cuda(3)]);
        for _ in 0..JUDGED_AFTER {
            assert_eq!(paces.slow_device(), None, "too little is known");
            paces.note(0, 100, 0.1);
            paces.note(1, 50, 0.2);
        }
        let words = paces.slow_device().unwrap();
        assert!(words.starts_with("cuda:3 computes 4.0 times slower than cuda:0"), "{words}");
        assert_eq!(paces.slow_device(), None);
    }

    #[test]
    fn devices_of_similar_speed_are_not_named() {
        let mut paces = Paces::new([Device::Cuda(0), Device::Cuda(1)]);
        for _ in 0..100 {
            paces.note(0, 100, 0.10);
            paces.note(1, 100, 0.15);
        }
        assert_eq!(paces.slow_device(), None);
    }
}
