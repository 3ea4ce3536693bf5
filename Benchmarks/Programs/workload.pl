#!/usr/bin/perl
# SPDX-License-Identifier: MIT
# A Perl program as a heap sees it: hashes of arrays, strings that grow, regular expressions.
# Prints check=..., the same under every heap. Argument: rounds.
use strict;
use warnings;

my ($rounds) = @ARGV;
my ($check, $seed) = (0, 1);

sub number {
    $seed = ($seed * 1103515245 + 12345) % 2147483648;
    return $seed >> 4;
}

for my $round (1 .. $rounds) {
    my (%by_key, @lines);
    for my $i (1 .. 12000) {
        my $number = number();
        push @{$by_key{$number % 1500}}, "entry-$number-" . ('x' x ($number % 60));
    }
    for my $key (sort { $a <=> $b } keys %by_key) {
        my $line = join '|', map { s/x{3,}/=/r } sort @{$by_key{$key}};
        push @lines, $line;
    }
    my $text = '';
    $text .= $_ . "\n" for @lines;
    my $digits = () = $text =~ /[0-9]+/g;
    $check = ($check * 31 + length($text) * 7 + $digits) % 4294967291;
}
printf "check=%08x\n", $check;
