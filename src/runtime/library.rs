//! Where the ONNX Runtime library is.

use std::path::{Path, PathBuf};

/// No ONNX Runtime library was found.
#[derive(Debug, thiserror::Error)]
#[error(
    "no ONNX Runtime library found (looked at {}); run `make setup` in the project's folder, or install the \
     Python package onnxruntime and name its capi/libonnxruntime.so.* with --onnxruntime or ORT_DYLIB_PATH",
    list(.looked)
)]
pub struct LibraryNotFound {
    looked: Vec<PathBuf>,
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(target_os = "macos")]
const NAME: &str = "libonnxruntime.dylib";
#[cfg(target_os = "windows")]
const NAME: &str = "onnxruntime.dll";
#[cfg(not(any(target_os = "macos", target_os = "windows")))]
const NAME: &str = "libonnxruntime.so";

/// Where `make setup` puts the library, below the project's folder.
const SETUP: &str = ".cache/onnxruntime";

/// The library to load: `explicit` (a flag), else `ORT_DYLIB_PATH`, else the one beside the binary or in the folder `lib`
/// beside the binary's (`bin/`, `lib/`), else the one that the set-up put into the project's folder (found from the
/// binary's place or the working directory).
///
/// # Errors
/// If none of the places holds a file. A place that was named is the only one that is tried.
pub fn find_library(explicit: Option<&Path>) -> Result<PathBuf, LibraryNotFound> {
    let named = explicit
        .map(Path::to_owned)
        .or_else(|| std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()).map(PathBuf::from));
    let candidates = named.map_or_else(usual_places, |path| vec![path]);
    match candidates.iter().find(|path| path.is_file()) {
        // the loader tries relative paths beside the executable first
        Some(path) => Ok(path.canonicalize().unwrap_or_else(|_| path.clone())),
        None => Err(LibraryNotFound { looked: candidates }),
    }
}

fn usual_places() -> Vec<PathBuf> {
    let mut places = Vec::new();
    // a link to the program, in a folder of programs, leads to where it was unpacked
    if let Ok(binary) = std::env::current_exe().and_then(|path| path.canonicalize()) {
        places.extend(binary.parent().map(|folder| folder.join(NAME)));
        places.extend(binary.ancestors().nth(2).map(|folder| folder.join("lib").join(NAME)));
        let below_project = |folder: &&Path| folder.join(SETUP).is_dir();
        places.extend(
            binary.ancestors().skip(1).find(below_project).map(|folder| folder.join(SETUP).join(NAME)),
        );
    }
    places.push(Path::new(SETUP).join(NAME));
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_library_that_is_missing_says_how_to_get_it() {
        let error = find_library(Some(Path::new("/nowhere/libonnxruntime.so"))).unwrap_err().to_string();
        assert!(error.contains("/nowhere/libonnxruntime.so") && error.contains("make setup"), "{error}");
    }
}
