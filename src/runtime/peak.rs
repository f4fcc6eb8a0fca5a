//! How much memory a session took, as ONNX Runtime counts it.
#![expect(unsafe_code, reason = "ort has no call for an allocator's statistics")]

use std::ffi::{CStr, c_char};

use ort::AsPointer as _;
use ort::memory::{Allocator, MemoryInfo};
use ort::session::Session;

use super::RuntimeError;

/// What ONNX Runtime calls the most bytes that an arena had given out at once.
const MOST: &str = "MaxInUse";

/// The most bytes of a memory that a session's tensors took at once; none if its allocator does not count.
pub(super) fn of(session: &Session, memory: &MemoryInfo<'static>) -> Result<Option<usize>, RuntimeError> {
    let allocator = Allocator::new(session, memory.clone())?;
    let api = ort::api();
    let mut pairs = std::ptr::null_mut();
    // SAFETY: the allocator lives until the end of this function, and the call writes the pointer.
    let status = unsafe { (api.AllocatorGetStats)(allocator.ptr(), &raw mut pairs) };
    // SAFETY: the status is of the call above, and is taken once.
    unsafe { ort::Error::result_from_status(status) }?;
    if pairs.is_null() {
        return Ok(None);
    }
    let (mut keys, mut values, mut count) = (std::ptr::null(), std::ptr::null(), 0_usize);
    // SAFETY: the pairs were made above; the call writes pointers into them.
    unsafe { (api.GetKeyValuePairs)(pairs, &raw mut keys, &raw mut values, &raw mut count) };
    let most = (0..count).find_map(|i| {
        // SAFETY: there are as many keys and values as the call counted, and each is a string of the pairs.
        let [key, value] =
            [keys, values].map(|all: *const *const c_char| unsafe { CStr::from_ptr(*all.add(i)) });
        if key.to_str() == Ok(MOST) { value.to_str().ok()?.parse().ok() } else { None }
    });
    // SAFETY: the pairs were made above, and no string of them is left.
    unsafe { (api.ReleaseKeyValuePairs)(pairs) };
    Ok(most)
}
