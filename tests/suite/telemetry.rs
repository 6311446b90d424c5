//! GPUs behind a driver that refuses whatever it is told to.

use proptest::prelude::*;
use trestle::base::Bytes;
use trestle::telemetry::{Driver, Holder, Memory, Reading, Refusal, Throttle, ask};

/// A driver of `gpus` GPUs whose questions from `refused` are answered with a refusal.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fake {
    pub(crate) gpus: u32,
    /// By question, in the order of the trait; 0 is the count.
    pub(crate) refused: [Option<Refusal>; 13],
    pub(crate) throttles: Vec<Throttle>,
    pub(crate) utilization: u32,
}

impl Fake {
    fn say<T>(&self, question: usize, value: T) -> Reading<T> {
        match &self.refused[question] {
            Some(refusal) => Err(refusal.clone()),
            None => Ok(value),
        }
    }
}

impl Driver for Fake {
    fn count(&self) -> Reading<u32> {
        self.say(0, self.gpus)
    }
    fn name(&self, gpu: u32) -> Reading<String> {
        self.say(1, format!("NVIDIA H100 {gpu}"))
    }
    fn utilization(&self, _: u32) -> Reading<u32> {
        self.say(2, self.utilization)
    }
    fn memory(&self, _: u32) -> Reading<Memory> {
        let (used, total) = (Bytes(21 << 30), Bytes(80 << 30));
        let free = Bytes(total.0 - used.0);
        self.say(3, Memory { used, free, total })
    }
    fn sm_clock(&self, _: u32) -> Reading<u32> {
        self.say(4, 1980)
    }
    fn memory_clock(&self, _: u32) -> Reading<u32> {
        self.say(5, 2619)
    }
    fn power(&self, _: u32) -> Reading<u32> {
        self.say(6, 612_345)
    }
    fn power_limit(&self, _: u32) -> Reading<u32> {
        self.say(7, 700_000)
    }
    fn temperature(&self, _: u32) -> Reading<u32> {
        self.say(8, 64)
    }
    fn throttles(&self, _: u32) -> Reading<Vec<Throttle>> {
        self.say(9, self.throttles.clone())
    }
    fn pcie_sent(&self, _: u32) -> Reading<Bytes> {
        self.say(10, Bytes(1 << 30))
    }
    fn pcie_received(&self, _: u32) -> Reading<Bytes> {
        self.say(11, Bytes(1 << 29))
    }
    fn holders(&self, _: u32) -> Reading<Vec<Holder>> {
        let memory = Some(Bytes(20 << 30));
        self.say(12, vec![Holder { pid: 7, memory }])
    }
}

fn refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        Just(Refusal::Unsupported),
        Just(Refusal::NotPermitted),
        Just(Refusal::Lost),
        any::<String>().prop_map(Refusal::Other),
    ]
}

pub(crate) fn driver() -> impl Strategy<Value = Fake> {
    let refused = prop::array::uniform13(prop::option::weighted(0.3, refusal()));
    let throttle = prop::sample::select(vec![
        Throttle::Idle,
        Throttle::Setting,
        Throttle::PowerCap,
        Throttle::Thermal,
        Throttle::HardwareThermal,
        Throttle::PowerBrake,
        Throttle::HardwareSlowdown,
        Throttle::SyncBoost,
    ]);
    let throttles = prop::collection::vec(throttle, 0..4);
    (0u32..10, refused, throttles, any::<u32>()).prop_map(
        |(gpus, refused, throttles, utilization)| Fake {
            gpus,
            refused,
            throttles,
            utilization,
        },
    )
}

proptest! {
    #[test]
    fn each_refused_question_costs_its_own_number_only(driver in driver(), traffic in any::<bool>()) {
        let gpus = ask(&driver, traffic);
        if let Some(refusal) = &driver.refused[0] {
            prop_assert!(gpus.unwrap_err().contains(&refusal.to_string()));
            return Ok(());
        }
        let gpus = gpus.unwrap();
        prop_assert_eq!(gpus.len(), driver.gpus as usize);
        for (index, gpu) in (0..).zip(&gpus) {
            prop_assert_eq!(gpu.index, index);
            let errors = [
                gpu.name.as_ref().err(),
                gpu.utilization_percent.as_ref().err(),
                gpu.memory.as_ref().err(),
                gpu.sm_clock_mhz.as_ref().err(),
                gpu.memory_clock_mhz.as_ref().err(),
                gpu.power_watts.as_ref().err(),
                gpu.power_limit_watts.as_ref().err(),
                gpu.temperature_celsius.as_ref().err(),
                gpu.throttles.as_ref().err(),
            ];
            for (question, error) in (1..).zip(errors) {
                prop_assert_eq!(error, driver.refused[question].as_ref());
            }
            if traffic {
                prop_assert_eq!(gpu.pcie_sent.as_ref().err(), driver.refused[10].as_ref());
                prop_assert_eq!(gpu.pcie_received.as_ref().err(), driver.refused[11].as_ref());
            } else {
                prop_assert!(gpu.pcie_sent.is_err() && gpu.pcie_received.is_err());
            }
            prop_assert_eq!(gpu.holders.as_ref().err(), driver.refused[12].as_ref());
        }
    }
}

#[test]
fn units_are_watts_and_bytes() {
    let driver = Fake {
        gpus: 1,
        ..Fake::default()
    };
    let gpus = ask(&driver, true).unwrap();
    assert_eq!(gpus[0].power_watts, Ok(612.345));
    assert_eq!(gpus[0].power_limit_watts, Ok(700.0));
    assert_eq!(gpus[0].pcie_sent, Ok(Bytes(1 << 30)));
}
