// SPDX-License-Identifier: MIT
// The same code under libFuzzer, which looks for inputs that reach new branches.
import HeapImage

/// Called by libFuzzer with one input after the other.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzRegion(_ start: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: size))
    _ = try? readWhole(ByteArray(bytes: bytes))
    return 0
}
