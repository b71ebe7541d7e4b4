# Writes numbered, checksummed blocks into a file, each flushed before it is said; or checks such a file.
# usage: perl blocks.pl write FILE | check FILE ACKED
#
# Write number N goes to block (N * 7919) % BLOCKS: since 7919 is odd and BLOCKS a power of two, BLOCKS writes
# touch each block once. So it is known which number a block must hold at least, once a number is acknowledged.
use strict;
use warnings;
use Fcntl qw(O_RDWR O_CREAT SEEK_SET);
use IO::Handle;

my ($BLOCKS, $SIZE, $HEAD) = (4096, 4096, 64);
my ($mode, $path, $acked) = @ARGV;

sub block_of { return ($_[0] * 7919) % $BLOCKS }

# FNV-1a over the words of the block, in 32 bits.
sub sum {
    my ($text) = @_;
    my $hash = 2166136261;
    for my $word (unpack 'N*', $text) { $hash = (($hash ^ $word) * 16777619) & 0xffffffff }
    return $hash;
}

sub content {
    my ($number) = @_;
    my $body = pack 'N*', map { ($number * 2654435761 + $_ * 40503) & 0xffffffff } 1 .. ($SIZE - $HEAD) / 4;
    return pack("A$HEAD", sprintf 'block %d %d', $number, sum($body)) . $body;
}

# The number in a block; undef for one never written. Dies for anything else.
sub number_in {
    my ($text, $index) = @_;
    return undef if $text eq "\0" x $SIZE;
    my ($number, $sum) = substr($text, 0, $HEAD) =~ /\Ablock (\d+) (\d+) *\z/ or die "block $index: no head\n";
    die "block $index holds number $number\n" if block_of($number) != $index;
    my $body = substr $text, $HEAD;
    die "block $index, number $number: body differs\n" if sum($body) != $sum || $text ne content($number);
    return $number;
}

sub read_block {
    my ($file, $index) = @_;
    # A block that is being written right now may be read half and half.
    for my $try (1 .. 5) {
        sysseek $file, $index * $SIZE, SEEK_SET or die "seek: $!\n";
        my ($text, $got) = ('', 0);
        while ($got < $SIZE) {
            my $n = sysread $file, $text, $SIZE - $got, $got;
            die "read of block $index: $!\n" if !defined $n;
            last if $n == 0;
            $got += $n;
        }
        $text .= "\0" x ($SIZE - $got);
        my $number = eval { number_in($text, $index) };
        return $number if $@ eq '';
        return { index => $index, text => $text, why => $@ } if $try == 5;
        select undef, undef, undef, 0.05;
    }
}

sysopen my $file, $path, O_RDWR | ($mode eq 'write' ? O_CREAT : 0) or die "cannot open $path: $!\n";
my @found = map { read_block($file, $_) } 0 .. $BLOCKS - 1;
my ($highest) = sort { $b <=> $a } map { ref $_ ? 0 : $_ // 0 } @found;

# A small ext4 has blocks of 1 KiB: a power cut in the middle of a write of four may leave some of them as they were. No
# file system promises more. So the one write that was under way may be there in part, and nothing else.
my $torn = $highest + 1;
for my $block (grep { ref } @found) {
    my ($old, $new) = ($torn > $BLOCKS ? content($torn - $BLOCKS) : "\0" x $SIZE, content($torn));
    my $part = 1024;
    for my $from ($block->{index} == block_of($torn) ? map { $_ * $part } 0 .. $SIZE / $part - 1 : die $block->{why}) {
        my $is = substr $block->{text}, $from, $part;
        die $block->{why} if $is ne substr($old, $from, $part) && $is ne substr($new, $from, $part);
    }
    # What was there before is overwritten, as it was to be.
    $found[$block->{index}] = $torn;
}

if ($mode eq 'check') {
    my @lost;
    for my $number (($acked > $BLOCKS ? $acked - $BLOCKS + 1 : 1) .. $acked) {
        my $now = $found[block_of($number)] // 0;
        push @lost, "$number (its block holds $now)" if $now < $number;
    }
    die scalar(@lost) . " acknowledged writes are lost: @lost[0 .. ($#lost > 4 ? 4 : $#lost)]\n" if @lost;
    print "ok $highest\n";
    exit 0;
}

$| = 1;
$SIG{TERM} = sub { exit 0 };
print "begin $highest\n";
for (my $number = $highest + 1; ; $number++) {
    sysseek $file, block_of($number) * $SIZE, SEEK_SET or die "seek: $!\n";
    my $text = content($number);
    my $done = syswrite $file, $text;
    die "write: $!\n" if !defined $done || $done != $SIZE;
    $file->sync or die "sync: $!\n";
    print "acked $number\n" if $number % 10 == 0;
    select undef, undef, undef, 0.002;
}
