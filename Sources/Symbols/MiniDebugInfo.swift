// SPDX-License-Identifier: MIT
// "Mini debug info": a symbol table compressed with xz in `.gnu_debugdata`, as Fedora and Android
// ship it. liblzma is opened when first needed (libdw brings it); the output is bounded, since a
// section of a few kilobytes can claim to hold terabytes.

import CDw
import Glibc

private let outputLimit = 256 << 20

extension ElfFile {
    /// The ELF file within `.gnu_debugdata`.
    func miniDebugInfo() -> ElfFile? {
        guard let section = section(named: ".gnu_debugdata"), let packed = bytes(of: section),
            packed.count < outputLimit, let decode = lzmaDecoder()
        else { return nil }
        var capacity = max(1 << 20, packed.count * 8)
        while capacity <= outputLimit {
            let output = UnsafeMutableRawBufferPointer.allocate(byteCount: capacity, alignment: 16)
            var memoryLimit: UInt64 = 128 << 20
            var inputUsed = 0
            var outputUsed = 0
            let status = decode(
                &memoryLimit, 0, nil, packed.baseAddress, &inputUsed, packed.count,
                output.baseAddress, &outputUsed, capacity)
            if status == lzmaOK {
                return ElfFile(
                    owning: UnsafeMutableRawBufferPointer(rebasing: output[..<outputUsed]))
            }
            output.deallocate()
            guard status == lzmaOutputFull else { return nil }
            capacity *= 4
        }
        return nil
    }
}

private let lzmaOK: Int32 = 0
private let lzmaOutputFull: Int32 = 10

/// What `lzma_stream_buffer_decode` takes: memory limit, flags, allocator; input, position and size;
/// output, position and size.
private typealias LzmaDecode =
    @convention(c) (
        UnsafeMutablePointer<UInt64>, UInt32, UnsafeRawPointer?, UnsafeRawPointer?,
        UnsafeMutablePointer<Int>, Int, UnsafeMutableRawPointer?, UnsafeMutablePointer<Int>, Int
    ) -> Int32

private func lzmaDecoder() -> LzmaDecode? {
    guard let library = dlopen("liblzma.so.5", RTLD_NOW | RTLD_LOCAL),
        let function = dlsym(library, "lzma_stream_buffer_decode")
    else { return nil }
    return unsafeBitCast(function, to: LzmaDecode.self)
}
