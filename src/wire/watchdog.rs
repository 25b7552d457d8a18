//! What agent and PID 1 say to each other of the watchdog device.
//!
//! The agent orders `Keep` after each confirmed renewal, and `Disarm` when nothing here can be a primary any more. PID 1
//! answers when there is something that it has not told this agent yet, not each time.

use super::TO_INIT_LEN;

/// The longest path of a device: what a message to PID 1 has room for.
pub const DEVICE_MAX: usize = TO_INIT_LEN - 16;

/// The path of a device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Device {
    bytes: [u8; DEVICE_MAX],
    length: u8,
}

impl Device {
    /// `None`: not absolute, longer than `DEVICE_MAX`, or with a NUL.
    pub fn new(path: &[u8]) -> Option<Device> {
        if path.first() != Some(&b'/') || path.contains(&0) {
            return None;
        }
        let mut bytes = [0; DEVICE_MAX];
        bytes.get_mut(..path.len())?.copy_from_slice(path);
        Some(Device { bytes, length: u8::try_from(path.len()).ok()? })
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(std::str::from_utf8(self.as_bytes()).unwrap_or("(a path that is not UTF-8)"))
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Whether a member leads without the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// What is wrong with it is told at the debug level.
    Optional,
    Required,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchdogOrder {
    /// Arm it unless it is, and keep it alive: the lock was renewed.
    Keep {
        device: Device,
        need: Need,
        /// In seconds.
        timeout: u16,
        /// Nanoseconds on CLOCK_BOOTTIME. After it a countdown would end later than it may, so that none is begun.
        by: u64,
    },
    /// Whether it could be armed, without touching it: opening it would begin the countdown.
    Check(Device),
    Disarm,
}

/// What has become of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchdogState {
    /// To `Keep`; the driver may have rounded the time, in seconds.
    Armed { timeout: u32 },
    /// To `Keep`; PID 1 has said why.
    Failed,
    /// To `Check`: it can be written.
    Usable,
    /// To `Check`: it is missing, or cannot be written.
    Unusable,
}

pub(super) const KEEP: u8 = 10;
pub(super) const CHECK: u8 = 11;
pub(super) const DISARM: u8 = 12;

impl WatchdogOrder {
    /// Tag, length of the path, timeout (two bytes), need, three of nothing, `by`, path.
    pub(super) fn encode(&self) -> [u8; TO_INIT_LEN] {
        let mut packet = [0; TO_INIT_LEN];
        let device = match self {
            WatchdogOrder::Keep { device, need, timeout, by } => {
                packet[0] = KEEP;
                packet[2..4].copy_from_slice(&timeout.to_le_bytes());
                packet[4] = u8::from(*need == Need::Required);
                packet[8..16].copy_from_slice(&by.to_le_bytes());
                Some(device)
            }
            WatchdogOrder::Check(device) => {
                packet[0] = CHECK;
                Some(device)
            }
            WatchdogOrder::Disarm => {
                packet[0] = DISARM;
                None
            }
        };
        if let Some(device) = device {
            packet[1] = device.length;
            packet[16..].copy_from_slice(&device.bytes);
        }
        packet
    }

    pub(super) fn decode(packet: &[u8; TO_INIT_LEN]) -> Option<WatchdogOrder> {
        let device = || Device::new(packet[16..].get(..usize::from(packet[1]))?);
        match packet[0] {
            KEEP => Some(WatchdogOrder::Keep {
                device: device()?,
                need: if packet[4] == 0 { Need::Optional } else { Need::Required },
                timeout: u16::from_le_bytes(packet[2..4].try_into().ok()?),
                by: u64::from_le_bytes(packet[8..16].try_into().ok()?),
            }),
            CHECK => device().map(WatchdogOrder::Check),
            DISARM => Some(WatchdogOrder::Disarm),
            _ => None,
        }
    }
}

impl WatchdogState {
    pub(super) fn encode(self) -> u64 {
        match self {
            WatchdogState::Armed { timeout } => u64::from(timeout) << 8 | 1,
            WatchdogState::Failed => 2,
            WatchdogState::Usable => 3,
            WatchdogState::Unusable => 4,
        }
    }

    pub(super) fn decode(value: u64) -> Option<WatchdogState> {
        match (value & 0xff, u32::try_from(value >> 8).ok()?) {
            (1, timeout) => Some(WatchdogState::Armed { timeout }),
            (2, 0) => Some(WatchdogState::Failed),
            (3, 0) => Some(WatchdogState::Usable),
            (4, 0) => Some(WatchdogState::Unusable),
            (_, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{TO_AGENT_MAX, ToAgent, ToInit};
    use super::*;

    fn device(path: &[u8]) -> Device {
        Device::new(path).expect("a path")
    }

    #[test]
    fn orders_and_states_read_back() {
        let long = [b'/'; DEVICE_MAX];
        let keep = |need, timeout, by| WatchdogOrder::Keep { device: device(b"/dev/watchdog"), need, timeout, by };
        let orders = [
            keep(Need::Optional, 1, 0),
            keep(Need::Required, u16::MAX, u64::MAX),
            WatchdogOrder::Check(device(&long)),
            WatchdogOrder::Disarm,
        ];
        for order in orders.map(ToInit::Watchdog) {
            assert_eq!(ToInit::decode(&order.encode()), Some(order));
        }
        let armed = WatchdogState::Armed { timeout: u32::MAX };
        let mut buffer = [0; TO_AGENT_MAX];
        for state in [armed, WatchdogState::Failed, WatchdogState::Usable, WatchdogState::Unusable] {
            let state = ToAgent::Watchdog(state);
            let length = state.encode(&mut buffer);
            assert_eq!(ToAgent::decode(&buffer[..length]), Some(state));
        }
    }

    #[test]
    fn a_device_is_a_short_absolute_path() {
        assert!(Device::new(b"dev/watchdog").is_none() && Device::new(b"").is_none());
        assert!(Device::new(b"/a\0b").is_none() && Device::new(&[b'/'; DEVICE_MAX + 1]).is_none());
        let mut packet = [0; TO_INIT_LEN];
        packet[..2].copy_from_slice(&[CHECK, 63]);
        assert_eq!(ToInit::decode(&packet), None, "a path longer than the packet");
    }
}
