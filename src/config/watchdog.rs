//! The watchdog device.

use std::path::PathBuf;
use std::time::Duration;

use super::reader::Reader;
use crate::core::policy::Mode;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchdogMode {
    Off,
    /// A device that works is used.
    Automatic,
    /// Nobody leads without one.
    Required,
}

/// The longest path of a device: what a message to PID 1 has room for.
pub const DEVICE_MAX: usize = 48;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchdogConfig {
    pub mode: WatchdogMode,
    /// Absolute, and at most `DEVICE_MAX` bytes.
    pub device: PathBuf,
    /// Seconds between the machine's reset and the end of the lease. `None`: half of ttl.
    pub safety_margin: Option<u32>,
}

impl WatchdogConfig {
    /// After how many seconds without a renewal the machine is reset. 0: no device has so short a time.
    pub fn timeout(&self, ttl: Duration) -> u64 {
        match self.safety_margin {
            None => ttl.as_secs() / 2,
            Some(margin) => ttl.as_secs().saturating_sub(u64::from(margin)),
        }
    }
}

pub(super) fn read(reader: &mut Reader<'_>, mode: Mode) -> WatchdogConfig {
    let wanted = wanted(reader);
    let margin = reader.whole_or("watchdog.safety_margin", -1..=86_400, 5);
    let device = device(reader);
    let is_known = driver(reader, wanted);
    let mode = match (mode, wanted) {
        (Mode::Single, WatchdogMode::Required) => {
            let place = reader.document.place("watchdog.mode");
            reader.report.warn(format!("{place} has no effect: a single server holds no lock that could be lost"));
            WatchdogMode::Off
        }
        (Mode::Single, WatchdogMode::Automatic | WatchdogMode::Off) => WatchdogMode::Off,
        (Mode::Cluster, wanted) if is_known => wanted,
        (Mode::Cluster, _) => WatchdogMode::Off,
    };
    WatchdogConfig { mode, device, safety_margin: u32::try_from(margin).ok() }
}

fn wanted(reader: &mut Reader<'_>) -> WatchdogMode {
    let Some(mode) = reader.text("watchdog.mode") else { return WatchdogMode::Automatic };
    match mode.to_ascii_lowercase().as_str() {
        "off" | "false" | "no" | "0" | "disable" | "disabled" => WatchdogMode::Off,
        "automatic" | "auto" => WatchdogMode::Automatic,
        "required" | "require" => WatchdogMode::Required,
        _ => {
            reader.wrong("watchdog.mode", "off, automatic or required");
            WatchdogMode::Off
        }
    }
}

fn device(reader: &mut Reader<'_>) -> PathBuf {
    let path = reader.text_or("watchdog.device", "/dev/watchdog");
    if !path.starts_with('/') || path.len() > DEVICE_MAX {
        reader.wrong("watchdog.device", "an absolute path of at most 48 bytes");
    }
    PathBuf::from(path)
}

/// Whether there is such a driver: Patroni has one for Linux, and one for its own tests, whose device is a FIFO.
fn driver(reader: &mut Reader<'_>, wanted: WatchdogMode) -> bool {
    let Some(driver) = reader.text("watchdog.driver") else { return true };
    let is_known = ["default", "testing"].contains(&driver.to_ascii_lowercase().as_str());
    match wanted {
        _ if is_known => {}
        WatchdogMode::Off => {}
        WatchdogMode::Automatic => {
            let place = reader.document.place("watchdog.driver");
            reader.report.warn(format!("{place}: no such driver, so that there is no watchdog; default is Linux's"));
        }
        WatchdogMode::Required => {
            reader.wrong("watchdog.driver", "default, since a watchdog is required");
        }
    }
    is_known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_is_as_patroni_computes_it() {
        let timeout = |ttl, safety_margin| {
            let config =
                WatchdogConfig { mode: WatchdogMode::Automatic, device: "/dev/watchdog".into(), safety_margin };
            config.timeout(Duration::from_secs(ttl))
        };
        assert_eq!((timeout(30, None), timeout(61, None), timeout(60, Some(5))), (15, 30, 55));
        assert_eq!((timeout(30, Some(0)), timeout(5, Some(5)), timeout(5, Some(9))), (30, 0, 0));
    }
}
