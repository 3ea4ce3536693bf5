// SPDX-License-Identifier: MIT
import CRegion

/// Which memory of its program the heap asks huge pages for; chosen when the process starts.
package enum HugePages: String, CaseIterable, Sendable {
    /// What is densely used.
    case dense
    /// All, from the first allocation on.
    case always
    /// None, also where the kernel gives them unasked.
    case never

    /// nil for what no heap says.
    init?(_ root: mc_heap_root) {
        switch root.huge_pages {
        case UInt64(MC_HUGE_DENSE.rawValue): self = .dense
        case UInt64(MC_HUGE_ALWAYS.rawValue): self = .always
        case UInt64(MC_HUGE_NEVER.rawValue): self = .never
        default: return nil
        }
    }
}
