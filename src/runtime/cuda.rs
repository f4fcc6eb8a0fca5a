//! Why an NVIDIA GPU cannot be used, read out of what ONNX Runtime and the loader say.

use std::path::{Path, PathBuf};

/// Why an NVIDIA GPU cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CudaProblem {
    /// The library is a build for the processor.
    #[error(
        "{library} was built without CUDA; install the Python package onnxruntime-gpu and name its \
         capi/libonnxruntime.so.* with --onnxruntime or ORT_DYLIB_PATH"
    )]
    CpuBuild {
        /// The library in use.
        library: PathBuf,
    },
    /// The library's second half does not lie beside it.
    #[error(
        "{file} is missing; keep the files libonnxruntime*.so* of the package onnxruntime-gpu together in one folder"
    )]
    NoProvider {
        /// The file.
        file: String,
    },
    /// There is no NVIDIA driver.
    #[error(
        "{file} is not found: this machine has no NVIDIA driver, or the container does not see it (docker run --gpus \
         all)"
    )]
    NoDriver {
        /// The driver's library.
        file: String,
    },
    /// A library of CUDA is not found.
    #[error(
        "{file} is not found, which {needed_by} needs; install CUDA 13 (from NVIDIA, or the Python packages \
         nvidia-cublas, nvidia-cuda-runtime and nvidia-curand) and add the folder of {file} to LD_LIBRARY_PATH"
    )]
    MissingLibrary {
        /// The library.
        file: String,
        /// What was being loaded.
        needed_by: String,
    },
    /// The driver is older than the CUDA libraries.
    #[error(
        "the NVIDIA driver is too old for these CUDA libraries; nvidia-smi shows what it supports, CUDA 13 needs 580 or newer"
    )]
    OldDriver,
    /// The driver sees no GPU.
    #[error("the NVIDIA driver shows no GPU; see nvidia-smi, and whether CUDA_VISIBLE_DEVICES hides it")]
    NoGpu,
    /// There are fewer GPUs.
    #[error(
        "there is no such GPU: this process sees {count}, numbered from 0 (see nvidia-smi and CUDA_VISIBLE_DEVICES)"
    )]
    NoSuchGpu {
        /// How many there are.
        count: usize,
    },
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

// === impl CudaProblem ===

impl CudaProblem {
    /// Reads ONNX Runtime's message; `library` is the library in use.
    pub(super) fn of(message: &str, library: &Path) -> Self {
        if message.contains("not enabled in this build") {
            return Self::CpuBuild { library: library.to_owned() };
        }
        if let Some((loaded, reason)) = failed_load(message) {
            return match not_found(reason) {
                Some(file) if file.contains("libonnxruntime_providers_") => {
                    Self::NoProvider { file: file.into() }
                }
                Some(file) if file.starts_with("libcuda.so") => Self::NoDriver { file: file.into() },
                Some(file) => Self::MissingLibrary { file: file.into(), needed_by: loaded.into() },
                None => Self::Other(format!("{loaded} does not load: {reason}")),
            };
        }
        if message.contains("driver version is insufficient") {
            return Self::OldDriver;
        }
        if message.contains("no CUDA-capable device") {
            return Self::NoGpu;
        }
        match gpu_count(message) {
            Some(0) => Self::NoGpu,
            Some(count) => Self::NoSuchGpu { count },
            None => Self::Other(message.into()),
        }
    }
}

/// What was to be loaded, and the loader's reason.
fn failed_load(message: &str) -> Option<(&str, &str)> {
    message.split_once("Failed to load library ")?.1.split_once(" with error: ")
}

/// The file in `FILE: cannot open shared object file: No such file or directory`.
fn not_found(reason: &str) -> Option<&str> {
    reason.split_once(": cannot open shared object file").map(|(file, _)| file)
}

/// The count in `Invalid device ID: 5, must be between 0 (inclusive) and 1 (exclusive).`
fn gpu_count(message: &str) -> Option<usize> {
    let behind = message.split_once("Invalid device ID: ")?.1.split_once("(inclusive) and ")?.1;
    behind.split_once(" (exclusive)")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(message: &str) -> CudaProblem {
        CudaProblem::of(message, Path::new("lib/libonnxruntime.so"))
    }

    const LOAD: &str = "/onnxruntime_src/onnxruntime/core/session/provider_bridge_ort.cc:2043 onnxruntime::Provider& \
                        onnxruntime::ProviderLibrary::Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load library ";
    const MISSING: &str = "cannot open shared object file: No such file or directory";

    /// Messages of ONNX Runtime 1.31.1: of its build for the processor, and of onnxruntime-gpu without CUDA, with parts
    /// of it, and with drivers that show no GPU or are too old.
    #[test]
    fn what_is_missing_is_named_with_its_remedy() {
        let providers = "/opt/ort/libonnxruntime_providers_cuda.so";
        let info = "provider_options_utils.h:187 Parse Failed to parse provider option \"device_id\": ";
        for (message, problem, parts) in [
            (
                "CUDA execution provider is not enabled in this build.".to_owned(),
                CudaProblem::CpuBuild { library: "lib/libonnxruntime.so".into() },
                ["lib/libonnxruntime.so", "onnxruntime-gpu", "ORT_DYLIB_PATH"],
            ),
            (
                format!("{LOAD}{providers} with error: libcublasLt.so.13: {MISSING}"),
                CudaProblem::MissingLibrary { file: "libcublasLt.so.13".into(), needed_by: providers.into() },
                ["libcublasLt.so.13", providers, "LD_LIBRARY_PATH"],
            ),
            (
                format!("{LOAD}{providers} with error: libcuda.so.1: {MISSING}"),
                CudaProblem::NoDriver { file: "libcuda.so.1".into() },
                ["libcuda.so.1", "driver", "--gpus all"],
            ),
            (
                format!(
                    "{LOAD}/opt/ort/libonnxruntime_providers_shared.so with error: /opt/ort/libonnxruntime_providers_shared.so: {MISSING}"
                ),
                CudaProblem::NoProvider { file: "/opt/ort/libonnxruntime_providers_shared.so".into() },
                ["libonnxruntime_providers_shared.so", "onnxruntime-gpu", "one folder"],
            ),
            (
                format!(
                    "{info}CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; GPU=-1 ; \
                     expr=cudaGetDeviceCount(&num_devices);"
                ),
                CudaProblem::OldDriver,
                ["driver is too old", "nvidia-smi", "CUDA 13"],
            ),
            (
                format!(
                    "{info}CUDA failure 100: no CUDA-capable device is detected ; GPU=-1 ; \
                     expr=cudaGetDeviceCount(&num_devices);"
                ),
                CudaProblem::NoGpu,
                ["no GPU", "nvidia-smi", "CUDA_VISIBLE_DEVICES"],
            ),
            (
                format!("{info}Invalid device ID: 5, must be between 0 (inclusive) and 2 (exclusive)."),
                CudaProblem::NoSuchGpu { count: 2 },
                ["sees 2", "nvidia-smi", "CUDA_VISIBLE_DEVICES"],
            ),
        ] {
            let got = of(&message);
            assert_eq!(got, problem);
            let words = got.to_string();
            for part in parts {
                assert!(words.contains(part), "{part:?} in {words}");
            }
        }
    }

    #[test]
    fn what_is_not_known_is_told_as_it_came() {
        for message in ["CUDA failure 999: unknown error ; GPU=0", "Invalid device ID: what"] {
            assert_eq!(of(message), CudaProblem::Other(message.into()));
        }
        let symbol = format!("{LOAD}x.so with error: x.so: undefined symbol: cublasLtCreate");
        assert!(of(&symbol).to_string().contains("x.so does not load: x.so: undefined symbol"));
    }
}
