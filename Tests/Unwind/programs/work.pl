# SPDX-License-Identifier: MIT
# Perl: regular expressions, sorts with callbacks, string building.
use strict;
use warnings;
use Time::HiRes qw(time);

my $end = time() + ($ARGV[0] // 2);
sub recurse { my ($depth) = @_; return $depth ? [recurse($depth - 1), "x" x $depth] : {} }
while (time() < $end) {
    my %h;
    for my $i (1 .. 500) { $h{"k$i"} = [sort { $b <=> $a } map { $_ * 7 % 13 } 1 .. 20] }
    my $text = join ",", map { s/k(\d+)/$1$1/r } sort keys %h;
    $text =~ s/(\d)(\d)/recurse($1 % 5) ? "$2$1" : ""/ge;
    recurse(60);
}
