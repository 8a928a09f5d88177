//! What an image says of itself: which manifest is for this machine, its layers, and how it is to be run.

use serde_json::Value;

use super::source::Source;
use super::{Settings, invalid};
use crate::error::Result;
use crate::spec::Architecture;

/// Layers of an image at most, as Docker has it.
const LAYERS: usize = 127;
/// How deep an index may hold others.
const NESTED: usize = 4;
/// Arguments and variables together at most, and all that they and other settings have in bytes.
const TEXTS: usize = 1000;
const TEXT_BYTES: usize = 32 << 10;

/// An image, before its layers are read.
pub(super) struct Manifest {
    /// The digest of its configuration, which has those of all layers in it: two images of one are the same.
    pub(super) digest: String,
    pub(super) layers: Vec<Layer>,
    pub(super) settings: Settings,
}

/// A layer's file.
pub(super) struct Layer {
    pub(super) name: String,
    /// Of the file, where the image says it.
    pub(super) digest: Option<String>,
    /// Of the archive that it holds.
    pub(super) content: String,
}

impl Manifest {
    /// Reads all but the layers.
    pub(super) fn read(source: &Source, architecture: Architecture) -> Result<Self> {
        let (config, layers) = if source.has("index.json") {
            let (index, _) = source.json("index.json", None)?;
            let mut found = Found::default();
            find(source, &index, architecture, NESTED, &mut found)?;
            let manifest = found.only(source, architecture)?;
            let (manifest, _) = source.json(&blob(source, &manifest)?, Some(&manifest))?;
            let config = digest(source, &manifest["config"])?;
            let layers = list(source, &manifest, "layers")?.iter().map(|layer| {
                let kind = layer["mediaType"].as_str().unwrap_or_default();
                if kind.contains("encrypted") || kind.contains("foreign") || kind.contains("nondistributable") {
                    return Err(invalid(
                        &source.path,
                        &format!("it has a layer of type {kind:?}, which cannot be read"),
                    ));
                }
                let digest = digest(source, layer)?;
                Ok((blob(source, &digest)?, Some(digest)))
            });
            ((blob(source, &config)?, Some(config)), layers.collect::<Result<Vec<_>>>()?)
        } else {
            saved(source)?
        };
        let (value, digest) = source.json(&config.0, config.1.as_deref())?;
        let contents = list(source, &value["rootfs"], "diff_ids")?;
        if contents.len() != layers.len() || layers.len() > LAYERS {
            return Err(invalid(
                &source.path,
                &format!("it has {} layers and says {} (at most {LAYERS})", layers.len(), contents.len()),
            ));
        }
        let layers = layers.into_iter().zip(contents).map(|((name, digest), content)| {
            let content = sound(source, content.as_str().unwrap_or_default())?;
            Ok(Layer { name, digest, content })
        });
        let layers = layers.collect::<Result<_>>()?;
        Ok(Self { settings: settings(source, &value, architecture)?, digest, layers })
    }
}

/// A file's name, and its digest where that is known before.
type Named = (String, Option<String>);

/// What `docker save` wrote before it wrote an index: the configuration, and the layers.
fn saved(source: &Source) -> Result<(Named, Vec<Named>)> {
    let (images, _) = source.json("manifest.json", None)?;
    let [image] = images.as_array().map_or(&[][..], Vec::as_slice) else {
        return Err(invalid(&source.path, "it holds no image, or several; save one alone"));
    };
    let name = |value: &Value| {
        let name = value.as_str().filter(|name| !name.is_empty());
        name.map(str::to_owned).ok_or_else(|| invalid(&source.path, "its \"manifest.json\" names no file"))
    };
    let layers = list(source, image, "Layers")?.iter().map(|layer| Ok((name(layer)?, None)));
    Ok(((name(&image["Config"])?, None), layers.collect::<Result<_>>()?))
}

/// Manifests for this machine, each once; and for which others there are some.
#[derive(Default)]
struct Found {
    fit: Vec<String>,
    others: Vec<String>,
}

impl Found {
    fn only(mut self, source: &Source, architecture: Architecture) -> Result<String> {
        self.fit.sort();
        self.fit.dedup();
        match self.fit.len() {
            1 => Ok(self.fit.remove(0)),
            0 => Err(invalid(
                &source.path,
                &format!(
                    "it has no image for linux on {architecture}, but for: {}; build it for this machine",
                    if self.others.is_empty() { "nothing".to_owned() } else { self.others.join(", ") }
                ),
            )),
            many => Err(invalid(&source.path, &format!("it holds {many} images for this machine; copy one alone"))),
        }
    }
}

/// Lambda's name of an architecture, by that of images.
fn named(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86_64 => "amd64",
        Architecture::Arm64 => "arm64",
    }
}

/// Looks for manifests in an index, and in those that it holds.
fn find(source: &Source, index: &Value, wanted: Architecture, depth: usize, found: &mut Found) -> Result<()> {
    if depth == 0 {
        return Err(invalid(&source.path, &format!("its index holds others {NESTED} levels deep")));
    }
    for entry in list(source, index, "manifests")? {
        let digest = digest(source, entry)?;
        let kind = entry["mediaType"].as_str().unwrap_or_default();
        if kind.contains("image.index") || kind.contains("manifest.list") {
            let (index, _) = source.json(&blob(source, &digest)?, Some(&digest))?;
            find(source, &index, wanted, depth - 1, found)?;
            continue;
        }
        // Signatures and attestations are for no machine.
        let of_another = entry["annotations"]["vnd.docker.reference.type"].is_string();
        let platform = [&entry["platform"]["os"], &entry["platform"]["architecture"]].map(Value::as_str);
        match platform {
            _ if of_another => {}
            [None | Some("linux"), None] => found.fit.push(digest),
            [Some("linux"), Some(architecture)] if architecture == named(wanted) => found.fit.push(digest),
            [os, architecture] => {
                found.others.push(format!("{:.20}/{:.20}", os.unwrap_or_default(), architecture.unwrap_or_default()));
            }
        }
        if found.fit.len() + found.others.len() > 1000 {
            return Err(invalid(&source.path, "its index has more than 1000 images"));
        }
    }
    Ok(())
}

/// How the image is to be run.
fn settings(source: &Source, value: &Value, wanted: Architecture) -> Result<Settings> {
    let for_machine = [&value["os"], &value["architecture"]].map(|part| part.as_str().unwrap_or_default());
    if for_machine != ["linux", named(wanted)] {
        let [os, architecture] = for_machine;
        let why = format!("it is for {os:.20} on {architecture:.20}, and this machine is linux on {wanted}");
        return Err(invalid(&source.path, &format!("{why}; build it for this machine")));
    }
    let config = &value["config"];
    let (mut count, mut bytes) = (0, 0);
    let mut admit = |text: &str| {
        (count, bytes) = (count + 1, bytes + text.len());
        if count > TEXTS || bytes > TEXT_BYTES || text.contains('\0') {
            let why = format!("its settings have more than {TEXTS} texts or {TEXT_BYTES} bytes, or a NUL character");
            return Err(invalid(&source.path, &why));
        }
        Ok(text.to_owned())
    };
    let mut texts = |name: &str| match &config[name] {
        Value::Null => Ok(Vec::new()),
        Value::Array(all) => {
            let text = |value: &Value| {
                let wrong = || invalid(&source.path, &format!("its {name} holds something that is no text"));
                admit(value.as_str().ok_or_else(wrong)?)
            };
            all.iter().map(text).collect()
        }
        _ => Err(invalid(&source.path, &format!("its {name} is no list of texts"))),
    };
    let (entrypoint, cmd) = (texts("Entrypoint")?, texts("Cmd")?);
    let env = texts("Env")?;
    let env = env.iter().filter_map(|one| one.split_once('=')).map(|(name, value)| (name.into(), value.into()));
    let env = env.collect();
    let mut text = |name: &str| admit(config[name].as_str().unwrap_or_default());
    let (working_dir, user) = (text("WorkingDir")?, text("User")?);
    Ok(Settings { entrypoint, cmd, working_dir, env, user })
}

fn list<'a>(source: &Source, value: &'a Value, name: &str) -> Result<&'a Vec<Value>> {
    value[name]
        .as_array()
        .ok_or_else(|| invalid(&source.path, &format!("it has no list {name:?}; copy the image anew")))
}

/// The digest in a descriptor.
fn digest(source: &Source, descriptor: &Value) -> Result<String> {
    sound(source, descriptor["digest"].as_str().unwrap_or_default())
}

/// A digest of the one kind that everybody uses.
fn sound(source: &Source, digest: &str) -> Result<String> {
    let hex = digest.strip_prefix("sha256:").unwrap_or_default();
    if hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(digest.to_owned());
    }
    Err(invalid(&source.path, &format!("{digest:.100?} is no digest of the form sha256:…; copy the image anew")))
}

/// The file of a digest that is sound.
fn blob(source: &Source, digest: &str) -> Result<String> {
    Ok(sound(source, digest)?.replacen("sha256:", "blobs/sha256/", 1))
}
