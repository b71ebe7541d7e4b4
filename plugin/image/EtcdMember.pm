package EtcdMember;

# One etcd member. The spec holds its arguments ("arg --name=...") and whether it was ever up ("formed yes").
#
# INVARIANTS
# - A member that was up once and has no data now is a lost member. Started as new it would form an empty
#   cluster under the old identity, so it is refused, and says so.
# - Asked to stop, it goes after the targets of this host ("after FIRST-LAST", their ports), because what they
#   and the plugin do last is recorded here; but it does not wait longer than "drain" seconds.
use strict;
use warnings;
use parent -norequire, 'Role';
use Role qw(now);
use IO::Socket::INET;

my $DATA_DIR = '/data';
my $RETRY_SECONDS = 1;
my $QUIT_SECONDS = 10;
my $LISTEN = '0A';    # state of a listening socket in /proc/net/tcp

sub apply_spec {
    my ($self) = @_;
    $self->{spec} = $self->read_spec('arg');
    # etcd reads its arguments, the files they name among them, when it starts, and never again.
    my $wanted = $self->served;
    if ($self->{etcd} && ($self->{serves} // '') ne $wanted) {
        $self->say_log('its settings have changed: starting etcd anew');
        $self->shut_down;
        $self->{etcd} = undef;
        $self->set_state('starting');
    }
    return;
}

# What etcd is started from: its arguments, its configuration, and whose certificates it takes. Its own certificate it
# reads anew with each connection.
sub served {
    my ($self) = @_;
    my @content = @{ $self->{spec}{arg} };
    for my $name ('etcd.json', 'ca.crt') {
        open my $file, '<', $self->secret_path($name) or next;
        local $/ = undef;
        push @content, <$file> // '';
        close $file;
    }
    return join "\n", @content;
}

sub tick {
    my ($self) = @_;
    if ($self->{etcd} && $self->reaped($self->{etcd})) {
        $self->{etcd} = undef;
        $self->{retry_at} = now() + $RETRY_SECONDS;
        $self->set_state('error', "etcd ended: $self->{exit_text}");
    }
    return if $self->{terminating};
    if (!$self->{etcd}) {
        return if now() < ($self->{retry_at} // 0);
        if (($self->{spec}{formed} // '') eq 'yes' && !has_log()) {
            $self->set_state('error', 'this etcd member has lost its data: its data directory has no log (member/wal/'
                    . '*.wal). It is not started as new: restore the directory, or purge this node');
            return;
        }
        $self->{serves} = $self->served;
        $self->{etcd} = $self->spawn('etcd', @{ $self->{spec}{arg} });
    }
    # etcd opens its client port when it serves.
    return if $self->{state} eq 'ready';
    my $client = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{spec}{port}, Timeout => 1);
    $self->set_state('ready') if $client;
    return;
}

# etcd itself takes a directory without such a file for a new member's, whatever else is there.
sub has_log {
    opendir my $directory, "$DATA_DIR/member/wal" or return 0;
    my @files = grep { /[.]wal\z/ && -s "$DATA_DIR/member/wal/$_" } readdir $directory;
    closedir $directory;
    return @files > 0;
}

sub status { return () }

sub drained {
    my ($self) = @_;
    my ($first, $last) = split /-/, $self->{spec}{after} // '1-0';
    for my $table ('/proc/net/tcp', '/proc/net/tcp6') {
        open my $file, '<', $table or next;
        while (my $line = <$file>) {
            my (undef, $local, undef, $state) = split ' ', $line;
            next if $state ne $LISTEN;
            my $port = hex((split /:/, $local)[1]);
            return 0 if $port >= $first && $port <= $last;
        }
        close $file;
    }
    return 1;
}

sub shut_down {
    my ($self) = @_;
    return if !$self->{etcd};
    $self->end_child($self->{etcd}, $QUIT_SECONDS)
        or $self->say_log("etcd did not end within $QUIT_SECONDS s: killed");
    return;
}

1;
