package EtcdMember;

# One etcd member. The spec holds its arguments ("arg --name=...") and whether it was ever up ("formed yes").
#
# INVARIANT: a member that was up once and has no data now is a lost member. Started as new it would form an
# empty cluster under the old identity, so it is refused, and says so.
use strict;
use warnings;
use parent -norequire, 'Role';
use Role;

my $DATA_DIR = '/data';

sub run {
    my ($self) = @_;
    $| = 1;
    my $spec = $self->read_spec('arg');
    if (($spec->{formed} // '') eq 'yes' && !-d "$DATA_DIR/member/wal") {
        $self->say_log("this etcd member has lost its data: $DATA_DIR/member/wal is missing. It is not started as "
                . 'new. Restore the directory, or purge this node to begin anew');
        sleep 30;    # the engine restarts us: not in a tight loop
        exit 1;
    }
    exec 'etcd', @{ $spec->{arg} } or die "cannot start etcd: $!\n";
}

1;
