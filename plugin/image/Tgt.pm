package Tgt;

# tgtd's management socket, spoken directly: tgtadm takes CHAP secrets in argv, where every user of the host
# can read them. Layout of request and answer: struct tgtadm_req and tgtadm_rsp in tgt's usr/tgtadm.h (1.0.85),
# 120 bytes without padding, in the host's byte order.
use strict;
use warnings;
use IO::Socket::UNIX;

my %MODE = (system => 0, target => 1, device => 2, portal => 3, lld => 4, session => 5, connection => 6, account => 7);
my %OP = (new => 0, delete => 1, show => 2, bind => 3, unbind => 4, update => 5);
my @ERRORS = (
    'success', 'unknown error', 'out of memory', 'no such driver', 'no such target', 'no such LUN',
    'no such session', 'no such connection', 'no such binding', 'target exists', 'LUN exists', 'binding exists',
    'ACL exists', 'no such ACL', 'account exists', 'no such account', 'too many accounts', 'invalid request',
    'outgoing account exists', 'target is active', 'LUN is active', 'driver is active', 'unsupported operation',
    'unknown parameter', 'removal prevented',
);
my $REQUEST_BYTES = 120;
my $RESPONSE_BYTES = 8;

sub new { my ($class, $path) = @_; return bless { path => $path }, $class }

sub alive {
    my ($self) = @_;
    return defined IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $self->{path});
}

# Answers the text of a show; dies with tgtd's reason.
sub call {
    my ($self, $op, $mode, %with) = @_;
    my $text = defined $with{text} ? "$with{text}\0" : '';
    my $length = $REQUEST_BYTES + length $text;
    my $request = pack 'l l Z64 L l Q Q L L L L L L',
        $MODE{$mode}, $OP{$op}, 'iscsi', $length, $with{tid} // 1, $with{sid} // 0, $with{lun} // 0, $with{cid} // 0,
        0, 0, 0, 0, $with{force} // 0;
    my $socket = IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $self->{path})
        or die "tgtd does not answer: $!\n";
    my $all = $request . $text;
    syswrite($socket, $all) == length $all or die "tgtd took only part of a request\n";
    my $answer = '';
    while (sysread $socket, $answer, 65_536, length $answer) { }
    die "tgtd closed the connection without an answer\n" if length $answer < $RESPONSE_BYTES;
    my ($error) = unpack 'L', $answer;
    die 'tgtd: ' . ($ERRORS[$error] // "error $error") . " ($op $mode)\n" if $error != 0;
    return substr $answer, $RESPONSE_BYTES;
}

# The sessions that are logged in: [{ sid, cid, initiator }]
sub connections {
    my ($self) = @_;
    my @found;
    my ($sid, $cid);
    for my $line (split /\n/, $self->call('show', 'connection')) {
        if ($line =~ /Session: (\d+)/) { $sid = $1 }
        elsif ($line =~ /Connection: (\d+)/) { $cid = $1 }
        elsif ($line =~ /Initiator: (\S+)/) { push @found, { sid => $sid, cid => $cid, initiator => $1 } }
    }
    return @found;
}

sub portals {
    my ($self) = @_;
    my $text = $self->call('show', 'portal');
    return $text =~ /Portal: (\S+?),/g;
}

1;
