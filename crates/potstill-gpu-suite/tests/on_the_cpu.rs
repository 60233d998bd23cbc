//! The suite on the CPU: everything passes, and what is wrong is found.

use potstill_engine::ops;
use potstill_engine::{Tensor, Value, Vjp};
use potstill_gpu_suite::checks::{Case, Input, Options, Size, check_case, check_torch_noise, run};
use potstill_gpu_suite::{Outcome, Place, Report, markdown};
use potstill_noise::TorchCudaNormals;

#[test]
fn every_check_passes() {
    let options = Options {
        size: Size::Small,
        torch_noise: None,
        only: None,
    };
    let checks = run(&Place::Cpu, options, &mut |_| {});
    let failed: Vec<_> = checks.iter().filter(|check| check.failed()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    for group in [
        "operations",
        "torch",
        "optimizer",
        "unet",
        "training",
        "noise",
        "torch-noise",
    ] {
        assert!(checks.iter().any(|check| check.group == group), "no check of {group}");
    }
    // Nothing is skipped but what only a device can have made.
    let skipped: Vec<_> = checks
        .iter()
        .filter(|check| matches!(check.outcome, Outcome::Skipped(_)))
        .collect();
    assert_eq!(skipped.len(), 1, "{skipped:#?}");
    let report = Report {
        checks,
        ..Report::default()
    };
    assert_eq!(report.failures(), 0);
    assert!(markdown(&report).contains("| operations | f32 |"));
}

fn case(run: impl Fn(&[Value]) -> potstill_engine::Result<Value> + 'static) -> Case {
    let input = Input {
        dims: vec![3, 5],
        scale: 1.,
        weight: false,
    };
    Case {
        name: "broken".to_owned(),
        inputs: vec![input],
        bf16: 0.,
        run: Box::new(run),
    }
}

fn fails(run: impl Fn(&[Value]) -> potstill_engine::Result<Value> + 'static) -> String {
    let checks = check_case(&Place::Cpu, &case(run));
    assert_eq!(checks.len(), 1);
    match &checks[0].outcome {
        Outcome::Failed(why) => why.clone(),
        other => panic!("it was {other:?}"),
    }
}

/// What only the device's side does, for its number format is f32.
fn is_device(v: &Value) -> bool {
    v.tensor().dtype() == potstill_engine::DType::F32
}

/// Twice the input, with a gradient that is a little off.
struct Wrong;

impl Vjp for Wrong {
    fn name(&self) -> &'static str {
        "wrong"
    }

    fn backward(
        self: Box<Self>,
        grad: Tensor,
        _sink: &mut potstill_engine::Gradients,
    ) -> potstill_engine::Result<Vec<Option<Tensor>>> {
        Ok(vec![Some((grad * 2.001)?)])
    }
}

#[test]
fn what_is_wrong_is_found() {
    let slightly = fails(|v| ops::affine(&v[0], if is_device(&v[0]) { 1.001 } else { 1. }, 0.));
    assert!(slightly.contains("off by"), "{slightly}");
    let backwards = fails(|v| {
        if is_device(&v[0]) {
            let twice = (v[0].tensor() * 2.)?;
            return Ok(Value::from_vjp(twice, &[&v[0]], || Box::new(Wrong)));
        }
        ops::affine(&v[0], 2., 0.)
    });
    assert!(backwards.contains("off by"), "{backwards}");
    fails(|v| {
        let zero = if is_device(&v[0]) { 0. } else { 1. };
        ops::affine(&ops::log(&ops::affine(&ops::square(&v[0])?, zero, 0.)?)?, 1., 0.)
    });
    let shape = fails(|v| {
        if is_device(&v[0]) {
            ops::reshape(&v[0], &[5, 3])
        } else {
            Ok(v[0].clone())
        }
    });
    assert!(!shape.is_empty());
    let panic = fails(|v| {
        if is_device(&v[0]) {
            panic!("out of luck")
        } else {
            Ok(v[0].clone())
        }
    });
    assert!(panic.contains("out of luck"), "{panic}");
}

#[test]
fn torchs_noise_is_compared_value_by_value() {
    let folder = std::env::temp_dir().join(format!("potstill-suite-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("noise.json");
    let outcome = |change: f32| {
        let mut values = vec![0f32; 40];
        TorchCudaNormals::new(7, 1024).fill_from(5000, &mut values);
        values[17] += change;
        let vector = serde_json::json!({ "seed": 7, "count": 10_000, "first": 5000, "values": values });
        let recorded = serde_json::json!({ "threads": 1024, "vectors": [vector] });
        std::fs::write(&file, recorded.to_string()).unwrap();
        let checks = check_torch_noise(Some(&file));
        assert_eq!(checks.len(), 1);
        checks[0].failed()
    };
    assert!(!outcome(0.));
    assert!(outcome(1e-3));
    std::fs::write(&file, r#"{ "threads": 1024, "vectors": [] }"#).unwrap();
    assert!(
        check_torch_noise(Some(&file))[0].failed(),
        "an empty record is no proof"
    );
    std::fs::remove_dir_all(&folder).unwrap();
}
