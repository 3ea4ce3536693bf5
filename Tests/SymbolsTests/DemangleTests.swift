// SPDX-License-Identifier: MIT

import Testing

@testable import Symbols

@Suite struct DemangleTests {
    @Test(arguments: [
        "", "_", "_Z", "__Z", "_R", "$s", "main", "malloc", "_start", "_init", "__libc_start_main",
        "ZN1a1bE", "_TtC", "R", "_Rust_is_no_mangling", "$sender", "Zebra", "i", "_ZN",
        "operator new", "foo@GLIBC_2.2.5", "\u{e9}t\u{e9}", "_ZN3foo17h05af221e174051e9",
    ])
    func whatIsNotMangledStays(name: String) {
        #expect(demangle(name) == name)
    }

    @Test(arguments: [
        ("_ZN1a1b1C3runEi", "a::b::C::run(int)"),
        ("_Z1fv", "f()"),
        ("_ZN3FooC1Ev", "Foo::Foo()"),
        ("_ZN3FooC4Ev", "Foo::Foo()"),
        ("_ZN3FooD0Ev", "Foo::~Foo()"),
        ("_ZNK3Foo3barEv", "Foo::bar() const"),
        ("_ZNO3Foo3barEv", "Foo::bar() &&"),
        ("_ZN12_GLOBAL__N_11fEv", "(anonymous namespace)::f()"),
        (
            "_ZNSt6vectorIiSaIiEE9push_backEOi",
            "std::vector<int, std::allocator<int> >::push_back(int&&)"
        ),
        ("_ZZ4mainENKUlvE_clEv", "main::{lambda()#1}::operator()() const"),
        ("_ZZ4mainENKUliE0_clEi", "main::{lambda(int)#2}::operator()(int) const"),
        ("_Znwm", "operator new(unsigned long)"),
        ("_ZdlPvm", "operator delete(void*, unsigned long)"),
        ("_ZTV3Foo", "vtable for Foo"),
        ("_ZTI3Foo", "typeinfo for Foo"),
        ("_ZThn16_N3Foo3barEv", "non-virtual thunk to Foo::bar()"),
        ("_ZGVZ1fvE1x", "guard variable for f()::x"),
        ("_Z3addIiET_S0_S0_", "int add<int>(int, int)"),
        ("_Z3fooIJidcEEvDpT_", "void foo<int, double, char>(int, double, char)"),
        ("_ZN1a1b1C3runEi.cold", "a::b::C::run(int) [clone .cold]"),
        ("_ZL3foov.part.0", "foo() [clone .part.0]"),
        ("_ZN4llvm3runEv.llvm.1234567890", "llvm::run() [clone .llvm.1234567890]"),
        ("_ZcvT_IiEv", "operator int<int>()"),
    ])
    func cxx(mangled: String, expected: String) {
        #expect(demangle(mangled) == expected)
    }

    @Test(arguments: [
        ("$s4main3BoxV4pushyyxF", "main.Box.push(A) -> ()"),
        ("_$s4main3BoxV4pushyyxF", "main.Box.push(A) -> ()"),
        (
            "$s4main3BoxV4pushyyxFSi_Tg5",
            "generic specialization <Swift.Int> of main.Box.push(A) -> ()"
        ),
        ("$s4main1fyySaySiGF", "main.f(Swift.Array<Swift.Int>) -> ()"),
        ("$s4main3FooC3barSiyFTj", "dispatch thunk of main.Foo.bar() -> Swift.Int"),
        ("$s4main3FooCfD", "main.Foo.__deallocating_deinit"),
        ("$s4main1fyyF", "main.f() -> ()"),
        ("_T04main1fyyF", "main.f() -> ()"),
    ])
    func swift(mangled: String, expected: String) {
        #expect(demangle(mangled) == expected)
    }

    @Test(arguments: [
        ("_ZN4core3fmt5Write9write_str17h0123456789abcdefE", "core::fmt::Write::write_str"),
        (
            "_ZN4core3ptr23drop_in_place$LT$u8$GT$17h0123456789abcdefE",
            "core::ptr::drop_in_place<u8>"
        ),
        (
            "_ZN71_$LT$Test$u20$$u2b$$u20$$u27$static$u20$as$u20$foo..Bar$LT$Test$GT$$GT$3bar17h930b740aa94f1d3aE",
            "<Test + 'static as foo::Bar<Test>>::bar"
        ),
        ("_ZN3foo17h05af221e174051e9E.llvm.9876543210", "foo"),
        ("_ZN10_$RF$$BP$x1a17h05af221e174051e9E", "&*x::a"),
        ("_ZN10std..panic1a17h05af221e174051e9E", "std::panic::a"),
        // An escape nobody defined, a hash that is none: C++ by default.
        ("_ZN4$XX$1a17h05af221e174051e9E", "$XX$::a::h05af221e174051e9"),
        ("_ZN3foo17h05af221e174051ezE", "foo::h05af221e174051ez"),
    ])
    func rustLegacy(mangled: String, expected: String) {
        #expect(demangle(mangled) == expected)
    }

    @Test(arguments: [
        ("_RNvC6_123foo3bar", "123foo::bar"),
        ("_RNvCs1234_7mycrate3foo", "mycrate::foo"),
        (
            "_RNqCs4fqI2P2rA04_11utf8_identsu30____7hkackfecea1cbdathfdh9hlq6y",
            "utf8_idents::\u{10e1}\u{10d0}\u{10ed}\u{10db}\u{10d4}\u{10da}\u{10d0}\u{10d3}"
                + "_\u{10d2}\u{10d4}\u{10db}\u{10e0}\u{10d8}\u{10d4}\u{10da}\u{10d8}"
                + "_\u{10e1}\u{10d0}\u{10d3}\u{10d8}\u{10da}\u{10d8}"
        ),
        ("_RNCNCNgCs6DXkGYLi8lr_2cc5spawn00B5_", "cc::spawn::{closure#0}::{closure#0}"),
        (
            "_RNCINkXs25_NgCsbmNqQUJIY6D_4core5sliceINyB9_4IterhENuNgNoBb_4iter8iterator8Iterator9rpositionNCNgNpB9_6memchr7memrchrs_0E0Bb_",
            "<core::slice::Iter<u8> as core::iter::iterator::Iterator>::rposition::<core::slice::memchr::memrchr::{closure#1}>::{closure#0}"
        ),
        (
            "_RINbNbCskIICzLVDPPb_5alloc5alloc8box_freeDINbNiB4_5boxed5FnBoxuEp6OutputuEL_ECs1iopQbuBiw2_3std",
            "alloc::alloc::box_free::<dyn alloc::boxed::FnBox<(), Output = ()>>"
        ),
        ("_RNvMCsfEp0wJUmH9c_3fooINtB2_3BarpE3baz", "<foo::Bar<_>>::baz"),
        ("_RNvYNtC1a1SNtC1b1T1m", "<a::S as b::T>::m"),
        ("_RINvC1a1fReE", "a::f::<&str>"),
        ("_RINvC1a1fQShPhOhE", "a::f::<&mut [u8], *const u8, *mut u8>"),
        ("_RINvC1a1fAhj10_TuETxEE", "a::f::<[u8; 16], ((),), (i64,)>"),
        ("_RINvC1a1fFUKCahEuE", "a::f::<unsafe extern \"C\" fn(i8, u8)>"),
        ("_RINvC1a1fFG_RL0_hEjE", "a::f::<for<'a> fn(&'a u8) -> usize>"),
        ("_RINvC1a1fKj0_Kln5_Kb1_Kc41_KpE", "a::f::<0, -5, true, 'A', _>"),
        ("_RINvC1a1fKRe616263_E", "a::f::<{\"abc\"}>"),
        ("_RINvC1a1fKAj1_j2_EE", "a::f::<{[1, 2]}>"),
        ("_RINvC1a1fKTj1_EE", "a::f::<{(1,)}>"),
        ("_RINvC1a1fKVNtB2_1STj7_EE", "a::f::<{a::S(7)}>"),
        ("_RINvC1a1fKo123456789abcdef01_E", "a::f::<0x123456789abcdef01>"),
        ("_RNvC1a1f.llvm.123", "a::f"),
    ])
    func rustV0(mangled: String, expected: String) {
        #expect(demangle(mangled) == expected)
    }
}
