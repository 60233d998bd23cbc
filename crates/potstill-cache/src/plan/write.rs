//! Plans as canonical JSON. Their long lists, which have hundreds of thousands of members, are written here, one member after
//! another; what is around them is left to the canonicalizer, which sorts the keys of every object and so keeps all of it twice.

use std::io::{self, Write};

use super::Plan;
use super::documents::{GivenDraw, LatentsPlan, TeacherPlan, TextPlan, ViewOfImage};
use crate::canonical::canonical_json;
use crate::error::CacheError;

/// The canonical JSON of a plan.
///
/// # Errors
/// [`CacheError::Json`] for a number that is not finite.
pub(super) fn canonical(plan: &Plan) -> Result<Vec<u8>, CacheError> {
    let mut bytes = Vec::new();
    write(plan, &mut bytes)?;
    Ok(bytes)
}

/// Whether these bytes are the canonical JSON of a plan, which is not kept for that.
///
/// # Errors
/// As [`canonical`].
pub(super) fn is_canonical(plan: &Plan, bytes: &[u8]) -> Result<bool, CacheError> {
    let mut comparison = Comparison {
        rest: bytes,
        differs: false,
    };
    write(plan, &mut comparison)?;
    Ok(!comparison.differs && comparison.rest.is_empty())
}

/// Compares what is written with what is there.
struct Comparison<'a> {
    rest: &'a [u8],
    differs: bool,
}

impl Write for Comparison<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.rest.strip_prefix(bytes) {
            Some(rest) => self.rest = rest,
            None => self.differs = true,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A list of a plan: its key, and what writes its members.
type List<'a, W> = (&'static str, &'a dyn Fn(&mut W) -> io::Result<()>);

fn write<W: Write>(plan: &Plan, out: &mut W) -> Result<(), CacheError> {
    match plan {
        Plan::Latents(plan) => {
            let around = LatentsPlan {
                vae: plan.vae.clone(),
                views: Vec::new(),
                ..*plan
            };
            let views = |out: &mut W| members(out, &plan.views, view);
            weave(&canonical_json(&around)?, &[("views", &views)], out)
        }
        Plan::Text(plan) => {
            let around = TextPlan {
                encoders: plan.encoders.clone(),
                captions: Vec::new(),
                ..*plan
            };
            // Strings are escaped as ECMAScript does: shortly, and nothing that need not be.
            let captions = |out: &mut W| {
                members(out, &plan.captions, |out, caption| {
                    Ok(serde_json::to_writer(out, caption)?)
                })
            };
            weave(&canonical_json(&around)?, &[("captions", &captions)], out)
        }
        Plan::Teacher(plan) => {
            let around = TeacherPlan {
                id: plan.id.clone(),
                unet: plan.unet.clone(),
                schedule: plan.schedule.clone(),
                adapters: plan.adapters.clone(),
                fields: plan.fields.clone(),
                noise: plan.noise.clone(),
                given: plan.given.as_ref().map(|_| Vec::new()),
                samples: Vec::new(),
                time_ids: plan.time_ids.clone(),
                ..*plan
            };
            let given = |out: &mut W| members(out, plan.given.as_deref().unwrap_or_default(), draw);
            let samples = |out: &mut W| {
                members(out, &plan.samples, |out, (view, caption)| {
                    write!(out, "[{view},{caption}]")
                })
            };
            let lists: [List<'_, W>; 2] = [("given", &given), ("samples", &samples)];
            let lists = if plan.given.is_some() { &lists[..] } else { &lists[1..] };
            weave(&canonical_json(&around)?, lists, out)
        }
    }
}

/// Keys in their order.
fn view<W: Write>(out: &mut W, entry: &ViewOfImage) -> io::Result<()> {
    out.write_all(b"{\"image\":\"")?;
    out.write_all(&entry.image.hex())?;
    write!(out, "\",\"view\":\"{}\"}}", entry.view)
}

fn draw<W: Write>(out: &mut W, draw: &GivenDraw) -> io::Result<()> {
    out.write_all(b"{\"noise\":\"")?;
    out.write_all(&draw.noise.hex())?;
    write!(out, "\",\"seed\":\"{}\",\"timestep\":{}}}", draw.seed, draw.timestep)
}

fn members<W: Write, T>(out: &mut W, list: &[T], write: impl Fn(&mut W, &T) -> io::Result<()>) -> io::Result<()> {
    for (index, member) in list.iter().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        write(out, member)?;
    }
    Ok(())
}

/// Writes a plan with the members of its lists, which are empty in it and stand in the order of their keys. A key is found
/// nowhere else: within a string the quotes would be escaped, and names of files have strings as values.
fn weave<W: Write>(around: &[u8], lists: &[List<'_, W>], out: &mut W) -> Result<(), CacheError> {
    let json = |reason: String| CacheError::Json { reason };
    let failed = |error: io::Error| json(error.to_string());
    let mut rest = around;
    for (key, write) in lists {
        let place = format!("\"{key}\":[]");
        let at = rest.windows(place.len()).position(|window| window == place.as_bytes());
        let at = at.ok_or_else(|| json(format!("there is no list {key:?}")))? + place.len() - 1;
        out.write_all(&rest[..at]).map_err(failed)?;
        write(out).map_err(failed)?;
        rest = &rest[at..];
    }
    out.write_all(rest).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::sha256;

    /// The canonicalizer's own bytes, of everything at once.
    fn reference(plan: &Plan) -> Vec<u8> {
        match plan {
            Plan::Latents(plan) => canonical_json(plan),
            Plan::Text(plan) => canonical_json(plan),
            Plan::Teacher(plan) => canonical_json(plan),
        }
        .unwrap()
    }

    fn parsed(json: &str) -> Plan {
        Plan::read(json.as_bytes()).unwrap()
    }

    #[test]
    fn lists_are_written_as_the_canonicalizer_does() {
        let digest = sha256(b"a file").to_string();
        let head = r#""dtype":"f16","format":"potstill-cache","shardRecords":64,"version":1"#;
        let files = format!(r#"{{"\"views\":[]":"{digest}","b":"{digest}","é":"{digest}"}}"#);
        let latents = format!(
            r#"{{"component":"latents",{head},"vae":{{"channels":4,"config":"{digest}","downscale":8,"sampling":"mean","scalingFactor":1e-7,"weights":{files}}},"views":[{{"image":"{digest}","view":"64x32+5+0f"}},{{"image":"{digest}","view":"64x64+0+1"}}]}}"#
        );
        let text = format!(
            r#"{{"captions":["","\u0000\u001f\u007f\b\f\n\r\t\"\\/\u00e9\u2028\ud83d\ude00"],"component":"text",{head},"encoders":[{{"config":"{digest}","tokenizer":{files},"weights":{files}}}],"shape":{{"tokens":77,"width":768}}}}"#
        );
        let teacher = |more: &str| {
            format!(
                r#"{{"adapters":[{{"file":"{digest}","scale":1e21}}],"component":"teacher","draws":2,"fields":["cond"],"id":"a",{head},"latents":"{digest}","noise":{{"baseSeed":42,"generator":"stored"}},"prediction":"v","samples":[[0,1],[4294967295,0]],"schedule":{{"alphasCumprod":"","timesteps":0}},"storage":"f32","text":"{digest}","timesteps":[0,1000],"unconditional":"empty","unet":{{"config":"{digest}","weights":{files}}}{more}}}"#
            )
        };
        let given = format!(
            r#","given":[{{"noise":"{digest}","seed":"18446744073709551615","timestep":7}}],"timeIds":[[1,2.5,0,0,1e300,-1]]"#
        );
        for json in [latents, text, teacher(""), teacher(&given)] {
            let plan = parsed(&json);
            let (own, other) = (plan.to_bytes().unwrap(), reference(&plan));
            assert_eq!(String::from_utf8_lossy(&own), String::from_utf8_lossy(&other));
            assert!(is_canonical(&plan, &own).unwrap());
            for (at, changed) in [(0, b' '), (own.len() / 2, 0), (own.len() - 1, b' ')] {
                let mut bytes = own.clone();
                bytes[at] = changed;
                assert!(!is_canonical(&plan, &bytes).unwrap(), "{at}");
            }
            assert!(!is_canonical(&plan, &own[..own.len() - 1]).unwrap());
            assert!(!is_canonical(&plan, &[&own[..], b" "].concat()).unwrap());
        }
    }

    #[test]
    fn empty_lists_stay_empty() {
        let plan = parsed(
            r#"{"captions":[],"component":"text","dtype":"f16","encoders":[],"format":"potstill-cache","shape":{"tokens":77,"width":8},"shardRecords":1,"version":1}"#,
        );
        assert_eq!(plan.to_bytes().unwrap(), reference(&plan));
    }
}
