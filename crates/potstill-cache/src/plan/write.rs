//! Plans as canonical JSON. Their long lists, which have hundreds of thousands of members, are written here and put in their
//! places; what is around them is left to the canonicalizer, which sorts the keys of every object and so keeps all of it twice.

use std::io::Write;

use super::Plan;
use super::documents::{GivenDraw, LatentsPlan, TeacherPlan, TextPlan, ViewOfImage};
use crate::canonical::canonical_json;
use crate::error::CacheError;

/// The canonical JSON of a plan.
///
/// # Errors
/// [`CacheError::Json`] for a number that is not finite.
pub(super) fn canonical(plan: &Plan) -> Result<Vec<u8>, CacheError> {
    match plan {
        Plan::Latents(plan) => {
            let around = LatentsPlan {
                vae: plan.vae.clone(),
                views: Vec::new(),
                ..*plan
            };
            insert(canonical_json(&around)?, "views", &plan.views, view)
        }
        Plan::Text(plan) => {
            let around = TextPlan {
                encoders: plan.encoders.clone(),
                captions: Vec::new(),
                ..*plan
            };
            insert(canonical_json(&around)?, "captions", &plan.captions, |out, caption| {
                // Strings are escaped as ECMAScript does: shortly, and nothing that need not be.
                serde_json::to_writer(out, caption)
            })
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
            let mut bytes = canonical_json(&around)?;
            if let Some(given) = &plan.given {
                bytes = insert(bytes, "given", given, draw)?;
            }
            insert(bytes, "samples", &plan.samples, |out, (view, caption)| {
                write!(out, "[{view},{caption}]").map_err(serde_json::Error::io)
            })
        }
    }
}

/// Keys in their order.
fn view(out: &mut Vec<u8>, entry: &ViewOfImage) -> Result<(), serde_json::Error> {
    out.extend_from_slice(b"{\"image\":\"");
    out.extend_from_slice(&entry.image.hex());
    write!(out, "\",\"view\":\"{}\"}}", entry.view).map_err(serde_json::Error::io)
}

fn draw(out: &mut Vec<u8>, draw: &GivenDraw) -> Result<(), serde_json::Error> {
    out.extend_from_slice(b"{\"noise\":\"");
    out.extend_from_slice(&draw.noise.hex());
    write!(out, "\",\"seed\":\"{}\",\"timestep\":{}}}", draw.seed, draw.timestep).map_err(serde_json::Error::io)
}

/// Puts the members of a list into the place of an empty one. Its key is found nowhere else: within a string the quotes would be
/// escaped, and names of files have strings as values.
fn insert<T>(
    around: Vec<u8>,
    key: &str,
    members: &[T],
    write: impl Fn(&mut Vec<u8>, &T) -> Result<(), serde_json::Error>,
) -> Result<Vec<u8>, CacheError> {
    let json = |reason: String| CacheError::Json { reason };
    let place = format!("\"{key}\":[]");
    let at = around
        .windows(place.len())
        .position(|window| window == place.as_bytes());
    let at = at.ok_or_else(|| json(format!("there is no list {key:?}")))? + place.len() - 1;
    let mut bytes = around[..at].to_vec();
    for (index, member) in members.iter().enumerate() {
        if index > 0 {
            bytes.push(b',');
        }
        write(&mut bytes, member).map_err(|error| json(error.to_string()))?;
    }
    bytes.extend_from_slice(&around[at..]);
    Ok(bytes)
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
