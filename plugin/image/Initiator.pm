package Initiator;

# Turns the LUN into a block device of the host: qemu-storage-daemon logs in with libiscsi and exports the LUN
# as one file over FUSE; a loop device with direct I/O sits on that file.
#
# INVARIANTS
# - A device is published only when its size is the record's: a file that appears before the target is up has
#   size 0, and a mount on it fails for good.
# - The session is never given up: libiscsi reconnects for ever, so a target that restarts costs a stall, no
#   error (timeout=0).
# - Asked to stop, it detaches the loop device lazily and serves on until the last user has closed it.
# - QEMU older than 10.0.13 is refused: 7.2's FUSE export corrupts data under parallel direct writes.
use strict;
use warnings;
use parent -norequire, 'Role';
use Role qw(now nap);

my $DEVICE_FILE = '/spec/device';    # the loop device we attached last
my $TRIM_LIBRARY = '/usr/local/lib/openebs/libopenebs-trim.so';    # built from trim.c
my $LOOP_TRIES = 50;
my $BOOT_ID = '/proc/sys/kernel/random/boot_id';
my @OLDEST_QEMU = (10, 0, 13);
my $RETRY_SECONDS = 0.1;
my $MAX_RETRY_SECONDS = 2;
my $QUIT_SECONDS = 10;

sub apply_spec {
    my ($self) = @_;
    $self->{spec} = $self->read_spec;
    for my $need (['/dev/fuse', 'load the fuse module'], ['/dev/loop-control', 'load the loop module']) {
        -e $need->[0] or die "this host has no $need->[0]: $need->[1]\n";
    }
    check_qemu();
    $self->detach_dead_device if !$self->{device};
    return;
}

# After a SIGKILL our loop device stays bound to an export that is gone, for ever. What we noted is ours while the
# kernel's number of its use is the noted one, in the same boot. Linux before 5.15 has no such number: there it is ours
# while its backing device is the noted one, or nobody can tell it any more (ENOTCONN). One that we were killed over
# before that is noted is ours while it sits on our export.
sub detach_dead_device {
    my ($self, $note) = @_;
    $note //= $DEVICE_FILE;
    open my $file, '<', $note or return;
    my ($device, $noted, $sequence, $boot) = split ' ', <$file> // '';
    close $file;
    return if ($device // '') !~ m{\A/dev/loop\d+\z} || !defined $noted;
    my $sys = '/sys/block/' . substr $device, 5;
    my $backing = backing_device($device);
    my $same = $noted eq 'wanted' ? $sequence eq line_of($BOOT_ID) && $self->sits_on_export($sys)
        : defined $boot ? $sequence eq line_of("$sys/diskseq") && $boot eq line_of($BOOT_ID)
        : $backing eq '' || $backing eq $noted;
    if ($same && is_bound($sys)) {
        system 'losetup', '--detach', $device;
        $self->say_log("detached $device, whose export had died");
    }
    unlink $note;
    return;
}

sub is_bound { my ($sys) = @_; return -e "$sys/loop/backing_file" }

sub line_of {
    my ($path) = @_;
    open my $file, '<', $path or return '';
    my $line = <$file> // '';
    close $file;
    chomp $line;
    return $line;
}

# "0:57", the device number of the file system that holds the backing file.
sub backing_device {
    my ($device) = @_;
    my $number = `losetup --noheadings --list --output BACK-MAJ:MIN $device 2>/dev/null` // '';
    $number =~ s/\s+//g;
    return $number;
}

sub check_qemu {
    my $text = `qemu-storage-daemon --version` // '';
    my ($version) = $text =~ /version (\d+(?:\.\d+)+)/ or die "qemu-storage-daemon does not start\n";
    my @have = split /\./, $version;
    for my $i (0 .. $#OLDEST_QEMU) {
        my $order = ($have[$i] // 0) <=> $OLDEST_QEMU[$i];
        return if $order > 0;
        die "QEMU $version corrupts data: 10.0.13 or newer is needed\n" if $order < 0;
    }
    return;
}

# Its name is the volume's: mkfs.btrfs takes two loop devices whose files have the same path for one, and would
# refuse a volume while another is mounted.
sub export_file { my ($self) = @_; return "/run/lun-$self->{spec}{volume}" }

sub start_qemu {
    my ($self) = @_;
    my $spec = $self->{spec};
    my $export = $self->export_file;
    open my $file, '>>', $export or die "cannot make $export: $!\n";
    close $file;
    my $lun = join ',', 'driver=iscsi', 'node-name=lun', 'transport=tcp', "portal=$spec->{portal}",
        "target=$spec->{iqn}", 'lun=1', "initiator-name=$spec->{initiator}", "user=$spec->{user}",
        'password-secret=chap', 'timeout=0', 'discard=unmap';
    local $ENV{LD_PRELOAD} = $TRIM_LIBRARY;
    $self->{qemu} = $self->spawn('qemu-storage-daemon',
        '--object', 'secret,id=chap,file=' . $self->secret_path($spec->{secret}),
        '--blockdev', $lun,
        '--export', "type=fuse,id=export,node-name=lun,mountpoint=$export,writable=on,growable=off,allow-other=off");
    return;
}

sub attach_loop {
    my ($self) = @_;
    my $export = $self->export_file;
    my ($device, $said, $tries) = ('', '', 0);
    while (1) {
        chomp($device = `losetup --find 2>&1`);
        $device =~ m{\A/dev/loop\d+\z} or die "cannot find a loop device: $device\n";
        note_device($device, 'wanted', line_of($BOOT_ID));
        chomp($said = `losetup --direct-io=on $device $export 2>&1`);
        last if $? == 0;
        # Another may have got it meanwhile.
        die "cannot attach a loop device: $said\n" if ++$tries == $LOOP_TRIES;
        select undef, undef, undef, rand 0.02;
    }
    my $sys = '/sys/block/' . substr $device, 5;
    my $sequence = line_of("$sys/diskseq");
    note_device($device, backing_device($device) || '-', $sequence eq '' ? () : ($sequence, line_of($BOOT_ID)));
    @{$self}{qw(device sys)} = ($device, $sys);
    return;
}

sub note_device {
    my @line = @_;
    open my $note, '>', "$DEVICE_FILE.new" or die "cannot write $DEVICE_FILE: $!\n";
    print {$note} "@line\n" and close $note or die "cannot write $DEVICE_FILE: $!\n";
    rename "$DEVICE_FILE.new", $DEVICE_FILE or die "cannot write $DEVICE_FILE: $!\n";
    return;
}

# Whether the loop device still sits on our export: after a lazy detach it does until its last user is gone.
sub loop_bound {
    my ($self) = @_;
    return $self->{sys} && $self->sits_on_export($self->{sys});
}

sub sits_on_export {
    my ($self, $sys) = @_;
    my $export = $self->export_file;
    return line_of("$sys/loop/backing_file") =~ m{\Q$export\E};
}

sub detach_loop {
    my ($self) = @_;
    return if !$self->{device};
    system 'losetup', '--detach', $self->{device};
    return;
}

sub tick {
    my ($self) = @_;
    $self->qemu_ended if $self->{qemu};
    return if $self->{terminating} || $self->{abandoned};
    if (!$self->{qemu}) {
        return if now() < ($self->{retry_at} // 0);
        $self->start_qemu;
    }
    if ($self->{device}) {
        return if $self->loop_bound;
        # Somebody has detached it (losetup -d), and its last user is gone: the export is good for another one.
        $self->{device} = $self->{sys} = undef;
        $self->set_state('starting', 'its loop device was detached by another: attaching anew');
    }
    my $size = (stat $self->export_file)[7] // 0;
    # While qemu is coming up the loop looks often: this wait is part of every mount.
    $self->{hurry} = 0.005;
    return if $size == 0;
    if ($size != $self->{spec}{size}) {
        $self->set_state('error', "the LUN has $size bytes, the volume's record says $self->{spec}{size}");
        return;
    }
    $self->attach_loop;
    $self->{hurry} = undef;
    $self->{failures} = 0;
    $self->set_state('ready');
    return;
}

# Another host has the volume now. Who has the device mounted gets errors, instead of waiting for ever for a target
# that does not let us in.
sub abandon {
    my ($self) = @_;
    $self->{abandoned} = 1;
    if ($self->{qemu}) {
        kill 'KILL', $self->{qemu};
        waitpid $self->{qemu}, 0;
        $self->{qemu} = undef;
    }
    $self->detach_loop;
    $self->{device} = $self->{sys} = undef;
    my $export = $self->export_file;
    system 'umount', '-l', $export if mounted($export);
    $self->set_state('error', 'another host has taken the volume over');
    return;
}

sub qemu_ended {
    my ($self) = @_;
    return if !$self->reaped($self->{qemu});
    $self->{qemu} = undef;
    my $had_device = defined $self->{device};
    # The device is dead with its daemon: whoever has it mounted gets I/O errors until it is mounted anew.
    $self->detach_loop;
    $self->{device} = $self->{sys} = undef;
    # A daemon that was killed leaves a dead mount behind, with which the next one could not start.
    my $export = $self->export_file;
    system 'umount', '-l', $export if mounted($export);
    my $failures = $self->{failures} = ($self->{failures} // 0) + 1;
    my $wait = $RETRY_SECONDS * 2**($failures > 6 ? 6 : $failures - 1);
    $self->{retry_at} = now() + ($wait > $MAX_RETRY_SECONDS ? $MAX_RETRY_SECONDS : $wait);
    $self->{hurry} = undef;
    $self->set_state($had_device ? 'error' : 'starting',
        $had_device
        ? "the initiator lost its daemon ($self->{exit_text}): the device is dead"
        : "cannot log in to $self->{spec}{portal} ($self->{exit_text}), trying again");
    return;
}

sub mounted {
    my ($where) = @_;
    open my $file, '<', '/proc/self/mounts' or return 1;
    my $found = grep { (split / /)[1] eq $where } <$file>;
    close $file;
    return $found;
}

sub status {
    my ($self) = @_;
    return (device => $self->{state} eq 'ready' || $self->{state} eq 'draining' ? $self->{device} : undef);
}

sub drained {
    my ($self) = @_;
    $self->{hurry} = 0.01;
    if (!$self->{detaching}) {
        $self->{detaching} = 1;
        $self->detach_loop;
    }
    return !$self->loop_bound;
}

sub shut_down {
    my ($self) = @_;
    unlink $DEVICE_FILE if !$self->loop_bound;
    return if !$self->{qemu};
    $self->end_child($self->{qemu}, $QUIT_SECONDS)
        or $self->say_log("qemu-storage-daemon did not end within $QUIT_SECONDS s: killed");
    return;
}

1;
