//! What the GPU says of itself, as metrics: through NVIDIA's management library (NVML), which comes with the driver and is loaded when
//! this starts. Without it there are none of these metrics, and everything else works.

use std::{thread, time::Duration};

use metrics::Gauge;
use nvml_wrapper::{Device, Nvml, enum_wrappers::device::TemperatureSensor, error::NvmlError};

/// How often the GPU is asked. Its utilisation is itself an average over up to a second.
const INTERVAL: Duration = Duration::from_secs(5);

/// One look at a GPU. What it does not tell is absent: parts of a GPU (MIG) tell no utilisation, some boards no power.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Readings {
    /// The part of the time in which something ran on it, 0 to 1.
    utilization: Option<f64>,
    /// Bytes of memory that are allocated, by whatever process.
    memory_used: Option<f64>,
    /// Bytes of memory that it has.
    memory_total: Option<f64>,
    /// Degrees Celsius.
    temperature: Option<f64>,
    /// Watts.
    power: Option<f64>,
}

impl Readings {
    fn take(device: &Device<'_>) -> Self {
        let memory = device.memory_info().ok();
        Self::of(
            device.utilization_rates().ok().map(|rates| rates.gpu),
            memory.as_ref().map(|memory| memory.used),
            memory.as_ref().map(|memory| memory.total),
            device.temperature(TemperatureSensor::Gpu).ok(),
            device.power_usage().ok(),
        )
    }

    /// From NVML's units: percent, bytes, degrees Celsius, milliwatts.
    fn of(percent: Option<u32>, used: Option<u64>, total: Option<u64>, celsius: Option<u32>, mw: Option<u32>) -> Self {
        Self {
            utilization: percent.map(|percent| f64::from(percent) / 100.0),
            memory_used: used.map(|bytes| bytes as f64),
            memory_total: total.map(|bytes| bytes as f64),
            temperature: celsius.map(f64::from),
            power: mw.map(|milliwatts| f64::from(milliwatts) / 1000.0),
        }
    }

    /// Shows them, and unknown (NaN) what was shown before and is told no more: of a GPU that has fallen off its bus, the last readings
    /// would look healthy for ever.
    fn show(self, before: Self, uuid: &str) {
        let labels = [("uuid", uuid.to_owned())];
        let set = |now: Option<f64>, before: Option<f64>, gauge: &dyn Fn() -> Gauge| {
            if let Some(value) = now.or(before.map(|_| f64::NAN)) {
                gauge().set(value);
            }
        };
        set(self.utilization, before.utilization, &|| metrics::gauge!("perito_gpu_utilization_ratio", &labels));
        set(self.memory_used, before.memory_used, &|| metrics::gauge!("perito_gpu_memory_used_bytes", &labels));
        set(self.memory_total, before.memory_total, &|| metrics::gauge!("perito_gpu_memory_total_bytes", &labels));
        set(self.temperature, before.temperature, &|| metrics::gauge!("perito_gpu_temperature_celsius", &labels));
        set(self.power, before.power, &|| metrics::gauge!("perito_gpu_power_watts", &labels));
    }
}

/// How NVML finds the GPU that CUDA gave a number.
#[derive(Debug, PartialEq, Eq)]
enum Selector {
    /// By its place on the PCI bus among those that this container sees.
    Index(u32),
    /// By its UUID, or how that begins.
    Uuid(String),
}

impl Selector {
    /// `CUDA_VISIBLE_DEVICES` renumbers GPUs for CUDA and not for NVML. CUDA numbers them as NVML does where all are alike, or
    /// `CUDA_DEVICE_ORDER=PCI_BUS_ID` says so.
    fn new(cuda_index: usize, visible_devices: Option<&str>) -> Option<Self> {
        let Some(list) = visible_devices else { return Some(Self::Index(cuda_index.try_into().ok()?)) };
        let entry = list.split(',').nth(cuda_index)?.trim();
        match entry.parse() {
            Ok(index) => Some(Self::Index(index)),
            Err(_) if entry.starts_with("GPU-") || entry.starts_with("MIG-") => Some(Self::Uuid(entry.to_owned())),
            Err(_) => None,
        }
    }

    fn find<'a>(&self, nvml: &'a Nvml) -> Result<Device<'a>, NvmlError> {
        match self {
            Self::Index(index) => nvml.device_by_index(*index),
            // CUDA takes abbreviations; a part of a GPU is not among the devices and has to be named whole.
            Self::Uuid(uuid) => {
                for index in 0..nvml.device_count()? {
                    let device = nvml.device_by_index(index)?;
                    if device.uuid()?.starts_with(uuid) {
                        return Ok(device);
                    }
                }
                nvml.device_by_uuid(uuid.as_str())
            }
        }
    }
}

/// Measures the GPU of this number for as long as the process lives, on a thread of its own: drivers may take their time.
pub fn keep_measuring(cuda_index: usize) {
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    let spawned = thread::Builder::new().name("gpu".to_owned()).spawn(move || {
        let absent = |why: &dyn std::fmt::Display| {
            tracing::debug!(device.index = cuda_index, error.message = %why, "no metrics of the GPU");
        };
        let Some(selector) = Selector::new(cuda_index, visible.as_deref()) else {
            return absent(&"CUDA_VISIBLE_DEVICES does not name it by a number or a UUID");
        };
        let nvml = match Nvml::init() {
            Ok(nvml) => nvml,
            Err(error) => return absent(&error),
        };
        let found = selector.find(&nvml).and_then(|device| Ok((device.uuid()?, device)));
        let (uuid, device) = match found {
            Ok(found) => found,
            Err(error) => return absent(&error),
        };
        tracing::info!(device.index = cuda_index, device.uuid = uuid, "measuring the GPU");
        let mut before = Readings::default();
        loop {
            let now = Readings::take(&device);
            if now == Readings::default() && before != now {
                tracing::warn!(device.uuid = uuid, "the GPU does not answer any more");
            }
            now.show(before, &uuid);
            before = now;
            thread::sleep(INTERVAL);
        }
    });
    if let Err(error) = spawned {
        tracing::warn!(error.message = %error, "no thread to measure the GPU");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use metrics_exporter_prometheus::PrometheusBuilder;

    /// What `/metrics` shows after these looks.
    fn shown(looks: &[Readings]) -> String {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            looks.iter().fold(Readings::default(), |before, look| {
                look.show(before, "GPU-7");
                *look
            });
        });
        recorder.handle().render()
    }

    #[test]
    fn readings_are_shown_in_base_units() {
        let look = Readings::of(Some(87), Some(3 << 30), Some(16 << 30), Some(64), Some(212_500));
        let page = shown(&[look]);
        for line in [
            "perito_gpu_utilization_ratio{uuid=\"GPU-7\"} 0.87",
            "perito_gpu_memory_used_bytes{uuid=\"GPU-7\"} 3221225472",
            "perito_gpu_memory_total_bytes{uuid=\"GPU-7\"} 17179869184",
            "perito_gpu_temperature_celsius{uuid=\"GPU-7\"} 64",
            "perito_gpu_power_watts{uuid=\"GPU-7\"} 212.5",
        ] {
            assert!(page.lines().any(|shown| shown == line), "{line} is not in\n{page}");
        }
    }

    #[test]
    fn what_a_gpu_does_not_tell_is_absent_and_what_it_tells_no_more_is_unknown() {
        let part = Readings::of(None, Some(1), Some(2), None, None);
        let page = shown(&[part, part]);
        assert!(page.contains("memory_used") && !page.contains("utilization") && !page.contains("power"), "{page}");
        let page = shown(&[part, Readings::default()]);
        assert!(page.contains("perito_gpu_memory_used_bytes{uuid=\"GPU-7\"} NaN"), "{page}");
        assert_eq!(shown(&[Readings::default()]), "");
    }

    #[test]
    fn a_gpu_is_found_where_cuda_found_it() {
        let index = |index| Some(Selector::Index(index));
        let uuid = |uuid: &str| Some(Selector::Uuid(uuid.to_owned()));
        for (number, visible, expected) in [
            (0, None, index(0)),
            (3, None, index(3)),
            (0, Some("2,0"), index(2)),
            (1, Some("2, 0"), index(0)),
            (1, Some("GPU-aa,GPU-bb"), uuid("GPU-bb")),
            (0, Some("MIG-cc"), uuid("MIG-cc")),
            (1, Some("2"), None),
            (0, Some(""), None),
            (0, Some("-1"), None),
            (0, Some("none"), None),
        ] {
            assert_eq!(Selector::new(number, visible), expected, "{number} of {visible:?}");
        }
    }

    #[test]
    fn without_a_driver_the_library_is_missing_and_nothing_worse_happens() {
        match Nvml::init() {
            // A machine with a GPU shows that it can be read.
            Ok(nvml) => drop(Selector::Index(0).find(&nvml).map(|device| Readings::take(&device))),
            Err(error) => assert!(error.to_string().contains("libnvidia-ml"), "{error}"),
        }
    }
}
