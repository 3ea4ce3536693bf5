# SPDX-License-Identifier: MIT
"""perl: hashes, regular expressions, sorting, interpreter threads, fork, deep structures."""

NEEDS = ["perl"]
WEIGHT = 3

SCRIPT = r"""
use strict; use warnings; use threads; use threads::shared;
use Storable qw(freeze thaw); use Digest::MD5 qw(md5_hex); use List::Util qw(sum);
my $scale = shift;
my %h; $h{sprintf 'k%07d', ($_ * 7919) % 1000003} = { n => $_, l => [1 .. $_ % 9] } for 1 .. 40000 * $scale;
print scalar(keys %h), ' ', sum(map { scalar @{$_->{l}} } values %h), "\n";
my $text = join ' ', map { "word$_ " . ('ab' x ($_ % 17)) } 1 .. 30000;
my %seen; $seen{length $1}++ while $text =~ /\b(\w*?(?:ab)+)\b/g;
print join(',', map { "$_=$seen{$_}" } sort { $a <=> $b } keys %seen), "\n";
(my $copy = $text) =~ s/(\d+)/$1 * 2/ge; print md5_hex($copy), "\n";
print md5_hex(join ',', sort { $b cmp $a } keys %h), "\n";
print md5_hex(join ',', map { $_->{n} } sort { $a->{n} <=> $b->{n} } values %{thaw(freeze(\%h))}), "\n";
my $deep; $deep = [$deep, $_] for 1 .. 50000; undef $deep;
my $total : shared = 0;
my @t = map { my $n = $_; threads->create(sub {
    my %l; $l{$_ % 1000} .= chr(65 + $_ % 26) for 1 .. 30000; lock $total;
    $total += sum(map { length } values %l) + $n; return scalar keys %l; }) } 1 .. 4;
print join(' ', map { $_->join } @t), " $total\n";
my @kids; for my $n (1 .. 8) { my $pid = fork; if (!$pid) { my @x = map { "$_" x 10 } 1 .. 20000; exit $n } push @kids, $pid }
print join(' ', map { waitpid $_, 0; $? >> 8 } @kids), "\n";
open my $p, '-|', 'seq 1 5000' or die; my @l = <$p>; close $p; print scalar(@l), "\n";
local $_ = 'x' x 1_000_000; my $n = () = /x/g; print "$n\n";
eval { die { code => 42 } }; print $@->{code}, "\n";
print "done\n";
"""


def run(stage):
    script = stage.write("s.pl", SCRIPT)
    stage.run(["perl", script, "5" if stage.long else "1"], limit=120,
              env={"PERL_HASH_SEED": "0"})
