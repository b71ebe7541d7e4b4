package Role;

# What the roles share: the spec, the control socket, child processes and the one loop.
#
# The spec (/spec/spec) is lines of "key value". After an upgrade of the plugin a role of the old image reads specs
# of the new one, for as long as it is in use: so a key never changes its meaning, and unknown keys are skipped.
# The control socket (/spec/ctl) takes one command a connection
# and answers one line of JSON: that the connection is accepted at all is the proof that the role is alive,
# without asking the engine.
#   status   what the role knows now
#   reload   read the spec again and apply it, then answer like status
#   abandon  initiator: end at once, whoever uses the device, then answer like status
#
# INVARIANT: a role answers `"state":"ready"` only while what it serves is usable, at the generation of the
# spec it says.
use strict;
use warnings;
use Errno qw(EINTR);
use IO::Select;
use IO::Socket::UNIX;
use POSIX qw(:sys_wait_h);

our @EXPORT_OK = qw(now nap);
use Exporter qw(import);

my $SPEC_DIR = '/spec';
my $TICK_SECONDS = 0.1;
my $MAX_COMMAND_BYTES = 64;
my $TICKS_PER_SECOND = POSIX::sysconf(POSIX::_SC_CLK_TCK());

# What a value may be. They end in the arguments of root's programs and in tgtd's and QEMU's lists, where a comma or
# a blank begins the next item. A key that is not here is of a newer plugin, and is not used.
my $NAME = qr/iqn\.[a-z0-9.:-]+/;
my $ACCOUNT = qr/[A-Za-z0-9_-]+/;
my $SECRET_FILE = qr/[a-z0-9][a-z0-9-]*/;
my %ALLOWED = (
    generation => qr/[0-9a-f]*/, volume => qr/[a-z0-9][a-z0-9-]*/, iqn => $NAME, initiator => $NAME,
    address => qr/[0-9a-fA-F.:]+/, portal => qr/[0-9a-fA-F.:\[\]]+/, port => qr/\d+/, size => qr/\d+/,
    drain => qr/\d+(?:\.\d+)?/, file => qr/[a-z][a-z0-9]*\.img/, user => $ACCOUNT, secret => $SECRET_FILE,
    admit => qr/$NAME $ACCOUNT $SECRET_FILE/, formed => qr/yes|no/, after => qr/\d+-\d+/, arg => qr/--[a-z-]+=\S+/,
);

# Seconds by a clock that nobody sets, in steps of 10 ms; perl-base has no Time::HiRes.
sub now { return (POSIX::times())[0] / $TICKS_PER_SECOND }

sub set_spec_dir { ($SPEC_DIR) = @_; return }    # for tests

sub nap { my ($seconds) = @_; select undef, undef, undef, $seconds; return }

sub new {
    my ($class) = @_;
    return bless {
        role => lc $class,
        state => 'starting',
        error => '',
        spec => {},
        terminating => 0,
        stop_at => undef,
    }, $class;
}

sub say_log {
    my ($self, $message) = @_;
    printf "%s %s: %s\n", POSIX::strftime('%Y-%m-%dT%H:%M:%SZ', gmtime), $self->{role}, $message;
    return;
}

# The spec as { key => value }; keys that may repeat are in $many and come as lists.
sub read_spec {
    my ($self, @many) = @_;
    my %spec = map { $_ => [] } @many;
    open my $file, '<', "$SPEC_DIR/spec" or die "cannot read $SPEC_DIR/spec: $!\n";
    while (my $line = <$file>) {
        chomp $line;
        next if $line eq '';
        my ($key, $value) = split / /, $line, 2;
        die "spec line without a value: $key\n" if !defined $value;
        die "bad value in the spec: $key\n" if $ALLOWED{$key} && $value !~ /\A$ALLOWED{$key}\z/;
        if (ref $spec{$key}) { push @{ $spec{$key} }, $value }
        else { $spec{$key} = $value }
    }
    close $file;
    return \%spec;
}

# A secret's file name comes from the spec: only a plain name below /spec is read.
sub read_secret {
    my ($self, $name) = @_;
    die "bad secret file name\n" if $name !~ /\A[a-z0-9][a-z0-9-]*\z/;
    open my $file, '<', "$SPEC_DIR/$name" or die "cannot read the secret $name: $!\n";
    my $secret = <$file>;
    close $file;
    chomp $secret if defined $secret;
    die "the secret $name is empty\n" if !defined $secret || $secret eq '';
    die "bad secret in $name\n" if $secret !~ /\A$ACCOUNT\z/;
    return $secret;
}

sub secret_path { my ($self, $name) = @_; return "$SPEC_DIR/$name" }

sub set_state {
    my ($self, $state, $error) = @_;
    $error //= '';
    return if $self->{state} eq $state && $self->{error} eq $error;
    $self->{state} = $state;
    $self->{error} = $error;
    $self->say_log($error eq '' ? $state : "$state: $error");
    return;
}

sub json {
    my ($value) = @_;
    return 'null' if !defined $value;
    if (ref $value eq 'HASH') {
        return '{' . join(',', map { json($_) . ':' . json($value->{$_}) } sort keys %$value) . '}';
    }
    return '[' . join(',', map { json($_) } @$value) . ']' if ref $value eq 'ARRAY';
    return $$value if ref $value eq 'SCALAR';    # a number, passed by reference
    my $text = "$value";
    $text =~ s/([\\"])/\\$1/g;
    $text =~ s/([\x00-\x1f\x7f-\xff])/sprintf '\\u%04x', ord $1/ge;
    return "\"$text\"";
}

sub spawn {
    my ($self, @command) = @_;
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        $SIG{$_} = 'DEFAULT' for qw(TERM INT PIPE CHLD);
        exec { $command[0] } @command or POSIX::_exit(127);
    }
    return $pid;
}

# True once the child is gone; fills $self->{exit_text}.
sub reaped {
    my ($self, $pid) = @_;
    my $got = waitpid $pid, WNOHANG;
    return 0 if $got == 0;
    $self->{exit_text} = $got < 0 ? 'gone' : $? & 127 ? 'signal ' . ($? & 127) : 'exit ' . ($? >> 8);
    return 1;
}

sub end_child {
    my ($self, $pid, $grace_seconds) = @_;
    kill 'TERM', $pid;
    my $deadline = now() + $grace_seconds;
    while (now() < $deadline) {
        return 1 if $self->reaped($pid);
        nap(0.01);
    }
    kill 'KILL', $pid;
    waitpid $pid, 0;
    return 0;
}

sub open_control {
    my ($self) = @_;
    my $path = "$SPEC_DIR/ctl";
    unlink $path;
    my $old = umask 0177;
    my $socket = IO::Socket::UNIX->new(Type => SOCK_STREAM, Local => $path, Listen => 64)
        or die "cannot listen on $path: $!\n";
    umask $old;
    $socket->blocking(0);
    return $socket;
}

sub answer {
    my ($self, $client) = @_;
    my $command = '';
    my $select = IO::Select->new($client);
    my $deadline = now() + 1;
    while ($command !~ /\n/ && length $command < $MAX_COMMAND_BYTES) {
        my $left = $deadline - now();
        last if $left <= 0 || !$select->can_read($left);
        last if !sysread $client, $command, $MAX_COMMAND_BYTES, length $command;
    }
    chomp $command;
    if ($command eq 'reload') {
        eval { $self->apply_spec; 1 } or $self->set_state('error', trimmed($@));
    }
    elsif ($command eq 'abandon' && $self->can('abandon')) {
        $self->abandon;
    }
    elsif ($command ne 'status') {
        syswrite $client, json({ error => 'unknown command' }) . "\n";
        return;
    }
    my %status = (
        role => $self->{role},
        state => $self->{state},
        error => $self->{error},
        generation => $self->{spec}{generation} // '',
        image => $ENV{OPENEBS_IMAGE},
        $self->status,
    );
    syswrite $client, json(\%status) . "\n";
    return;
}

sub trimmed { my ($text) = @_; $text =~ s/\s+\z//; return $text }

# apply_spec, status and tick are the role's own; drained says when a role that was asked to stop may.
sub run {
    my ($self) = @_;
    $| = 1;
    # Signals only note themselves: the loop acts. CHLD has a handler so that a child's end wakes select.
    $SIG{TERM} = $SIG{INT} = sub { $self->{terminating} = 1 };
    $SIG{CHLD} = sub { };
    $SIG{PIPE} = 'IGNORE';
    my $control = $self->open_control;
    my $select = IO::Select->new($control);
    eval { $self->apply_spec; 1 } or $self->set_state('error', trimmed($@));
    while (1) {
        # Somebody has deleted it: without it nobody could ask this role any more.
        if (!-S "$SPEC_DIR/ctl" && -d $SPEC_DIR && (my $new = eval { $self->open_control })) {
            $select->remove($control);
            $select->add($control = $new);
        }
        for my $ready ($select->can_read($self->{hurry} // $TICK_SECONDS)) {
            my $client = $control->accept or next;
            $client->blocking(1);
            $self->answer($client);
            close $client;
        }
        if ($self->{terminating} && !defined $self->{stop_at}) {
            $self->{stop_at} = now() + ($self->{spec}{drain} // 90);
            $self->set_state('draining');
        }
        eval { $self->tick; 1 } or $self->set_state('error', trimmed($@));
        next if !defined $self->{stop_at};
        if ($self->drained) {
            $self->say_log('drained');
            last;
        }
        if (now() > $self->{stop_at}) {
            $self->say_log('still in use at the end of the drain time: stopping all the same');
            last;
        }
    }
    $self->shut_down;
    unlink "$SPEC_DIR/ctl";
    return;
}

1;
