// SPDX-License-Identifier: MIT

/// One source position an address stands for.
///
/// An address inside inlined code has several: the
/// innermost inlined function first, the function that really exists in the machine code last.
package struct Location: Sendable, Equatable {
    /// Demangled; nil when neither debug information nor a symbol table names the address.
    package var function: String?
    /// Bytes from the start of the function's code to the address itself; 0 for inlined frames.
    package var offset: UInt64
    /// As the compiler recorded it, made absolute with the directory it ran in.
    package var file: String?
    package var line: Int?
    package var column: Int?
    package var isInlined: Bool
    /// Path of the module as the process recorded it.
    package var module: String?
    /// The address itself (not the byte before it) as the module's file numbers it.
    package var moduleOffset: UInt64?

    package init(
        function: String? = nil, offset: UInt64 = 0, file: String? = nil, line: Int? = nil,
        column: Int? = nil, isInlined: Bool = false, module: String? = nil,
        moduleOffset: UInt64? = nil
    ) {
        self.function = function
        self.offset = offset
        self.file = file
        self.line = line
        self.column = column
        self.isInlined = isInlined
        self.module = module
        self.moduleOffset = moduleOffset
    }
}
