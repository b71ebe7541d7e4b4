package Target;

# The VSM: one tgtd that exports one volume's disk.img as LUN 1 of one target.
#
# INVARIANTS
# - A backing file that is missing or has another size is refused, never made: an empty disk that looks like
#   the volume would be a lost volume that nobody notices.
# - A pool that has run out of space is said to have (space.c): the writer sees ENOSPC, the file system lives on.
# - bstype is rdwr. tgt's aio backing store answers success to SYNCHRONIZE CACHE without doing it.
# - The portal opens last, so nobody logs in to a half-made target; until then tgtd listens on a port of the
#   kernel's choice on loopback (tgtd would open 3260 on every address if it had no portal at all).
# - Only the admitted initiator name with the admitted account gets in. A name is bound last and taken away first:
#   without any account tgtd asks for no secret.
# - No session, login or write outlives the admission that it began under: whoever is admitted next is served by a
#   new tgtd, unless this one has served nobody since it was left alone. Deleting a connection does not end the
#   writes that tgtd's threads are at for it, and a login that is not finished is in no list.
# - Asked to stop, it serves on until no initiator is logged in, so that a container can flush its last write
#   while the engine shuts down.
use strict;
use warnings;
use parent -norequire, 'Role';
use Role qw(now nap);
use IO::Handle;
use Tgt;

my $SOCKET = '/run/tgtd';
my $BACKING_DIR = '/pool';
my $SPACE_LIBRARY = '/usr/local/lib/openebs/libopenebs-space.so';    # built from space.c
my $START_SECONDS = 10;
my $RETRY_SECONDS = 1;
my $CUT_SECONDS = 0.2;
my $BEGAN = now();
my $LASTING_SECONDS = 12;    # the engine restarts a container at once that has run for 10
my %CONNECTED = map { $_ => 1 } qw(01 08);    # in /proc/net/tcp: established, and closed by the other side only

sub apply_spec {
    my ($self) = @_;
    my $spec = $self->read_spec;
    $self->{spec} = $spec;
    if (!$self->{tgtd}) {
        $self->start;
        return;
    }
    $self->open_portal if ($self->{portal} // '') ne portal_of($spec);
    my $alone;
    if (!eval { $alone = $self->admit; 1 }) {
        # Nobody knows who is admitted now: a new tgtd admits whom the spec says.
        my $reason = $@;
        $self->stop_tgtd;
        die $reason;
    }
    if (!$alone) {
        $self->say_log('the admission has changed: starting tgtd anew');
        $self->stop_tgtd;
        $self->start;
    }
    $self->set_state('ready') if !$self->{terminating};
    return;
}

sub start {
    my ($self) = @_;
    my $spec = $self->{spec};
    $self->{retry_at} = now() + $RETRY_SECONDS;
    my $file = "$BACKING_DIR/$spec->{file}";
    my @stat = lstat $file or die "the volume's data $spec->{file} is missing from its pool: $!\n";
    -f _ or die "the volume's data $spec->{file} is not a file: put the file back\n";
    die "the volume's data has $stat[7] bytes, its record says $spec->{size}\n" if $stat[7] != $spec->{size};
    # tgtd would open it for reading only, for good, and say nothing.
    if (!open my $data, '+<', $file) {
        my $reason = "the volume's data $spec->{file} cannot be opened for writing: $!\n";
        # This container's mount has the flags of its start: only the next start sees that the pool is writable again.
        exit 1 if $!{EROFS} && now() - $BEGAN > $LASTING_SECONDS;
        die $reason;
    }

    $ENV{TGT_IPC_SOCKET} = $SOCKET;
    {
        local $ENV{LD_PRELOAD} = $SPACE_LIBRARY;
        $self->{tgtd} = $self->spawn('tgtd', '-f', '--iscsi', 'portal=127.0.0.1:0');
    }
    $self->{tgt} = Tgt->new("$SOCKET.0");
    my $deadline = now() + $START_SECONDS;
    while (!$self->{tgt}->alive) {
        $self->tgtd_ended;
        die "tgtd ended while starting: $self->{exit_text}\n" if !$self->{tgtd};
        die "tgtd does not answer after $START_SECONDS s\n" if now() > $deadline;
        nap(0.005);
    }
    $self->{admitted} = undef;
    $self->{portal} = undef;
    $self->{ports} = {};
    my $done = eval {
        my $tgt = $self->{tgt};
        $tgt->call('new', 'target', text => "targetname=$spec->{iqn}");
        $tgt->call('new', 'device', lun => 1, text => "path=$file,bstype=rdwr");
        $tgt->call('update', 'device', lun => 1,
            text => "vendor_id=OPENEBS,product_id=VSM,scsi_sn=$spec->{volume},thin_provisioning=1");
        $self->admit;
        $self->open_portal;
        1;
    };
    if (!$done) {
        my $reason = $@;
        $self->stop_tgtd;
        die $reason;
    }
    $self->set_state('ready');
    return;
}

# An IPv6 address stands in brackets, in what tgtd is told and in what it shows.
sub portal_of {
    my ($spec) = @_;
    return $spec->{address} =~ /:/ ? "[$spec->{address}]:$spec->{port}" : "$spec->{address}:$spec->{port}";
}

sub open_portal {
    my ($self) = @_;
    my $spec = $self->{spec};
    my @old = $self->{tgt}->portals;
    my $wanted = portal_of($spec);
    $self->{ports}{ $spec->{port} } = 1;
    grep { $_ eq $wanted } @old
        or eval { $self->{tgt}->call('new', 'portal', text => "portal=$wanted"); 1 }
        or die "port taken: cannot listen on $wanted\n";
    for my $portal (grep { $_ ne $wanted } @old) {
        $self->{tgt}->call('delete', 'portal', text => "portal=$portal");
    }
    $self->{portal} = $wanted;
    return;
}

# "admit <initiator IQN> <account> <secret file>", or no such line: nobody gets in. Answers false when this tgtd cannot
# be brought to it, as it has served another, or still has him connected: then a new one must.
sub admit {
    my ($self) = @_;
    my $tgt = $self->{tgt};
    my $wanted = $self->{spec}{admit};
    my $old = $self->{admitted};
    my ($iqn, $user, $secret_file) = defined $wanted ? split / /, $wanted : ();
    if ($old && defined $user) { return $old->{user} eq $user && $old->{iqn} eq $iqn }
    if ($old) {
        $tgt->call('unbind', 'target', text => "initiator-name=$old->{iqn}");
        $tgt->call('unbind', 'account', text => "user=$old->{user}");
        $tgt->call('delete', 'account', text => "user=$old->{user}");
        $self->{admitted} = undef;
        return $self->alone;
    }
    return 1 if !defined $user;
    my $secret = $self->read_secret($secret_file);
    $tgt->call('new', 'account', text => "user=$user,password=$secret");
    $tgt->call('bind', 'account', text => "user=$user");
    $tgt->call('bind', 'target', text => "initiator-name=$iqn");
    $self->{admitted} = { iqn => $iqn, user => $user };
    return 1;
}

# Whether nobody is connected, or will be gone in a moment.
sub alone {
    my ($self) = @_;
    my $deadline = now() + $CUT_SECONDS;
    while ($self->{tgt}->connections || grep { connected($_) } keys %{ $self->{ports} }) {
        return 0 if now() > $deadline;
        nap(0.005);
    }
    return 1;
}

# Whether anybody is connected to this port of the host.
sub connected {
    my ($port) = @_;
    my $found = 0;
    for my $table ('/proc/net/tcp', '/proc/net/tcp6') {
        open my $file, '<', $table or next;
        while (my $line = <$file>) {
            my (undef, $local, undef, $state) = split ' ', $line;
            next if !$CONNECTED{ $state // '' };
            $found = 1 if hex((split /:/, $local)[-1]) == $port;
        }
        close $file;
    }
    return $found;
}

sub tgtd_ended {
    my ($self) = @_;
    return if !$self->{tgtd} || !$self->reaped($self->{tgtd});
    $self->{tgtd} = undef;
    return;
}

sub stop_tgtd {
    my ($self) = @_;
    # tgtd ignores SIGTERM while a target exists. What it acknowledged is in the page cache already.
    kill 'KILL', $self->{tgtd};
    waitpid $self->{tgtd}, 0;
    $self->{tgtd} = undef;
    return;
}

sub tick {
    my ($self) = @_;
    my $was_up = defined $self->{tgtd};
    $self->tgtd_ended;
    if ($was_up && !$self->{tgtd}) {
        $self->{retry_at} = 0;
        $self->set_state('error', "tgtd ended: $self->{exit_text}");
    }
    return if now() < ($self->{retry_at} // 0);
    if (!$self->{tgtd}) {
        $self->{spec} = $self->read_spec;
        $self->start;
    }
    elsif ($self->{state} eq 'error') {
        # A reload that failed (its port was taken) is tried again: nobody need ask twice.
        $self->{retry_at} = now() + $RETRY_SECONDS;
        $self->apply_spec;
    }
    return;
}

sub status {
    my ($self) = @_;
    my @connections = $self->{tgtd} ? eval { $self->{tgt}->connections } : ();
    return (
        portal => $self->{portal},
        admitted => $self->{admitted} ? $self->{admitted}{iqn} : undef,
        initiators => [map { $_->{initiator} } @connections],
    );
}

sub drained {
    my ($self) = @_;
    return 1 if !$self->{tgtd};
    return !$self->{tgt}->connections;
}

sub shut_down {
    my ($self) = @_;
    return if !$self->{tgtd};
    if (open my $file, '+<', "$BACKING_DIR/$self->{spec}{file}") {
        $file->sync;
        close $file;
    }
    $self->stop_tgtd;
    return;
}

1;
