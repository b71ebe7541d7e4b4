import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const modules = readdirSync('plugin/image').filter((file) => file.endsWith('.pm'));

describe('the roles', () => {
  it.each(modules)('%s compiles without a warning', (file) => {
    const loaded = file === 'Role.pm' ? [] : ['-MRole'];
    const check = spawnSync('perl', ['-Iplugin/image', ...loaded, '-wc', `plugin/image/${file}`], {
      encoding: 'utf8',
    });
    expect(check.stderr.trim()).toBe(`plugin/image/${file} syntax OK`);
  });

  it('see a mount that a killed daemon left behind, and none where there is none', () => {
    const program = "print join ' ', map { Initiator::mounted($_) ? 1 : 0 } '/proc', '/run/no-lun';";
    const { stdout } = spawnSync('perl', ['-Iplugin/image', '-MRole', '-MInitiator', '-e', program], {
      encoding: 'utf8',
    });
    expect(stdout).toBe('1 0');
  });

  it.each([
    ['127.0.0.1', '127.0.0.1:13260'],
    ['fd00::1', '[fd00::1]:13260'],
  ])('listen on %s as %s', (address, portal) => {
    const program = `print Target::portal_of({ address => '${address}', port => 13260 });`;
    const { stdout } = spawnSync('perl', ['-Iplugin/image', '-MRole', '-MTarget', '-e', program], {
      encoding: 'utf8',
    });
    expect(stdout).toBe(portal);
  });

  it.each([
    ['a comma in the portal', 'portal 127.0.0.1:13260,user=x'],
    ['a comma in the IQN', 'iqn iqn.2016-09.com.openebs:v1,lun=0'],
    ['a comma in the account', 'user u,password=x'],
    ['a second item in the file', 'file disk.img,bstype=sg'],
    ['a path for a file', 'file ../../etc/shadow'],
    ['a path for a secret', 'secret ../etc/shadow'],
    ['a blank in the name that is admitted', 'admit iqn.a b c d'],
    ['a comma in the account that is admitted', 'admit iqn.a user,password=x secret-1'],
    ['a port that is none', 'port 80;reboot'],
    ['an argument that is no option', 'arg /bin/sh'],
    ['a NUL', 'volume v1\0'],
    ['a carriage return', 'initiator iqn.a\r'],
  ])('refuse a spec with %s', (_what, line) => {
    const directory = mkdtempSync(join(tmpdir(), 'spec-'));
    writeFileSync(join(directory, 'spec'), `generation 0a\n${line}\nfuture anything at all\n`);
    const program = `Role::set_spec_dir('${directory}'); print ref Role->new->read_spec('arg');`;
    const { stdout, stderr } = spawnSync('perl', ['-Iplugin/image', '-MRole', '-e', program], {
      encoding: 'utf8',
    });
    rmSync(directory, { recursive: true });
    expect(stdout).toBe('');
    expect(stderr).toBe(`bad value in the spec: ${line.split(' ')[0] ?? ''}\n`);
  });

  it('take what the plugin writes, and skip what a newer one may', () => {
    const directory = mkdtempSync(join(tmpdir(), 'spec-'));
    const lines = [
      ...['generation 0123456789abcdef', 'volume v1', 'iqn iqn.2016-09.com.openebs:v1', 'address fd00::1'],
      ...['port 13260', 'size 1073741824', 'file disk.img', 'drain 1.5', 'portal [fd00::1]:13260'],
      ...['admit iqn.2016-09.com.openebs:node-0a v1-3 secret-3', 'initiator iqn.a:b', 'user v1-3'],
      ...['secret secret', 'formed yes', 'after 13260-14259', 'arg --data-dir=/data', 'future a,b c'],
    ];
    writeFileSync(join(directory, 'spec'), `${lines.join('\n')}\n`);
    const program = `Role::set_spec_dir('${directory}'); print scalar keys %{ Role->new->read_spec('arg') };`;
    const { stdout, stderr } = spawnSync('perl', ['-Iplugin/image', '-MRole', '-e', program], {
      encoding: 'utf8',
    });
    rmSync(directory, { recursive: true });
    expect([stdout, stderr]).toEqual([String(lines.length), '']);
  });

  it('know who is connected to a port, finished login or not', async () => {
    const server = net.createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as net.AddressInfo;
    const connected = () =>
      spawnSync(
        'perl',
        ['-Iplugin/image', '-MRole', '-MTarget', '-e', `print Target::connected(${String(port)})`],
        {
          encoding: 'utf8',
        },
      ).stdout;
    expect(connected()).toBe('0');
    const client = net.connect(port, '127.0.0.1');
    const [peer] = (await once(server, 'connection')) as [net.Socket];
    expect(connected()).toBe('1');
    client.end();
    await once(peer.resume(), 'end');
    expect(connected()).toBe('1');
    peer.destroy();
    client.destroy();
    await once(client, 'close');
    expect(connected()).toBe('0');
    server.close();
  });

  it('give a device up at once when they are told to, and never look for its target again', () => {
    const program = `
      my $role = Initiator->new;
      { no warnings; *Initiator::detach_loop = sub { print "detached ", $_[0]{device} // "", " " }; *Role::say_log = sub { };
        *Initiator::mounted = sub { 0 }; *Initiator::start_qemu = sub { die "started\n" } }
      $role->{qemu} = my $pid = fork || exec 'sleep', '60';
      $role->{device} = '/dev/loop9'; $role->{spec} = { volume => 'v1' };
      $role->abandon;
      $role->tick;
      print kill(0, $pid) ? 'alive' : 'dead', " $role->{state}: $role->{error}, ", $role->drained ? 'drained' : 'waits';`;
    const { stdout, stderr } = spawnSync('perl', ['-Iplugin/image', '-MRole', '-MInitiator', '-e', program], {
      encoding: 'utf8',
    });
    expect(stderr).toBe('');
    expect(stdout).toBe(
      'detached /dev/loop9 detached  dead error: another host has taken the volume over, drained',
    );
  });

  it('detach a dead device only while it is used as it was noted, in the same boot', () => {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    const fate = (noted: string, now: string, backing = ''): string => {
      const directory = mkdtempSync(join(tmpdir(), 'note-'));
      const note = join(directory, 'device');
      writeFileSync(note, `/dev/loop999999 ${noted}\n`);
      const program = `
        use subs 'system';
        BEGIN { *CORE::GLOBAL::system = sub { print "detached"; 0 } }
        require Initiator;
        my $role = Initiator->new;
        $role->{spec} = { volume => 'v1' };
        { no warnings; *Role::say_log = sub { };
          my $line = \\&Initiator::line_of;
          *Initiator::line_of = sub { $_[0] =~ /diskseq/ ? '${now}' : $_[0] =~ /backing_file/ ? '${backing}' : $line->(@_) };
          *Initiator::backing_device = sub { '' }; *Initiator::is_bound = sub { 1 } }
        Initiator::detach_dead_device($role, '${note}');`;
      const { stdout, stderr } = spawnSync('perl', ['-Iplugin/image', '-MRole', '-e', program], {
        encoding: 'utf8',
      });
      rmSync(directory, { recursive: true });
      return stderr === '' ? stdout : stderr;
    };
    expect(fate(`0:57 5 ${boot}`, '5')).toBe('detached');
    expect(fate(`0:57 5 ${boot}`, '6')).toBe('');
    expect(fate('0:57 5 another-boot', '5')).toBe('');
    expect(fate('0:57', '5')).toBe('detached');
    // Killed between the attach and the note of it.
    expect(fate(`wanted ${boot}`, '5', '/run/lun-v1')).toBe('detached');
    expect(fate(`wanted ${boot}`, '5', '/run/lun-v2')).toBe('');
    expect(fate(`wanted ${boot}`, '5')).toBe('');
    expect(fate('wanted another-boot', '5', '/run/lun-v1')).toBe('');
  });

  it('start etcd anew when its configuration has changed, and only then', () => {
    const directory = mkdtempSync(join(tmpdir(), 'spec-'));
    writeFileSync(
      join(directory, 'spec'),
      'generation 0a\nformed no\nport 1\narg --config-file=/spec/etcd.json\n',
    );
    writeFileSync(join(directory, 'etcd.json'), '{"port":1}');
    const program = `
      Role::set_spec_dir('${directory}');
      my $role = EtcdMember->new;
      { no warnings; *Role::say_log = sub { }; *Role::spawn = sub { print "spawned "; 7 };
        *Role::end_child = sub { print "ended "; 1 }; *Role::reaped = sub { 0 } }
      my $write = sub { open my $file, '>', "${directory}/$_[0]" or die; print {$file} $_[1]; close $file };
      $role->apply_spec; $role->tick;
      $write->('spec', "generation 0b\\nformed yes\\nport 1\\narg --config-file=/spec/etcd.json\\n");
      $write->('server.crt', 'renewed');
      $role->apply_spec; $role->tick; print 'kept ';
      $write->('spec', "generation 0c\\nformed no\\nport 1\\narg --config-file=/spec/etcd.json\\n");
      $write->('etcd.json', '{"port":2}');
      $role->apply_spec; $role->tick; print $role->{state};`;
    const { stdout, stderr } = spawnSync(
      'perl',
      ['-Iplugin/image', '-MRole', '-MEtcdMember', '-e', program],
      {
        encoding: 'utf8',
      },
    );
    rmSync(directory, { recursive: true });
    expect([stdout, stderr]).toEqual(['spawned kept ended spawned starting', '']);
  });

  it('never hand a secret to a program: only the names of files that hold one', () => {
    const text = modules.map((file) => readFileSync(`plugin/image/${file}`, 'utf8')).join('\n');
    const commands = text.match(/(spawn|system|exec)\b[^;]*;/g) ?? [];
    expect(commands.length).toBeGreaterThan(4);
    expect(commands.filter((command) => /read_secret|\$secret|password=/.test(command))).toEqual([]);
  });
});

describe("tgtd's management socket", () => {
  let directory: string;
  let socketPath: string;
  let server: net.Server;
  let requests: Buffer[];
  /** What the fake tgtd answers: an error number and a text. */
  let answer: { error: number; text: string };

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'tgtd-'));
    socketPath = join(directory, 'tgtd.0');
    requests = [];
    answer = { error: 0, text: '' };
    // It reads as many bytes as the request says it has, answers and closes, as tgtd does.
    server = net.createServer((socket) => {
      let received = Buffer.alloc(0);
      socket.on('data', (chunk) => {
        received = Buffer.concat([received, chunk]);
        if (received.length < 120 || received.length < received.readUInt32LE(72)) return;
        requests.push(received);
        const head = Buffer.alloc(8);
        head.writeUInt32LE(answer.error, 0);
        head.writeUInt32LE(8 + answer.text.length, 4);
        socket.end(Buffer.concat([head, Buffer.from(answer.text)]));
      });
    });
    server.listen(socketPath);
    await once(server, 'listening');
  });

  afterEach(async () => {
    server.close();
    await once(server, 'close');
    rmSync(directory, { recursive: true });
  });

  /** The program is read from stdin, and so is what it sends: nothing of it is in argv. */
  async function perl(program: string): Promise<{ code: number; stdout: string; stderr: string }> {
    const child = spawn('perl', ['-Iplugin/image', '-MTgt', '-', socketPath]);
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    child.stdin.end(`my $tgt = Tgt->new(shift @ARGV);\n${program}\n`);
    const [code] = (await once(child, 'close')) as [number];
    return { code, stdout, stderr };
  }

  /** struct tgtadm_req: 120 bytes, no padding. */
  function read(request: Buffer | undefined) {
    if (!request) throw new TypeError('no request came');
    return {
      mode: request.readInt32LE(0),
      op: request.readInt32LE(4),
      driver: request.subarray(8, 72).toString().replace(/\0+$/, ''),
      length: request.readUInt32LE(72),
      tid: request.readInt32LE(76),
      sid: request.readBigUInt64LE(80),
      lun: request.readBigUInt64LE(88),
      cid: request.readUInt32LE(96),
      rest: [100, 104, 108, 112].map((offset) => request.readUInt32LE(offset)),
      force: request.readUInt32LE(116),
      text: request.subarray(120).toString(),
    };
  }

  it('is sent an account with its secret', async () => {
    const text = 'user=v1-3,password=s3cr3t';
    expect(await perl(`$tgt->call('new', 'account', text => '${text}');`)).toMatchObject({
      code: 0,
      stderr: '',
    });
    expect(read(requests[0])).toEqual({
      mode: 7,
      op: 0,
      driver: 'iscsi',
      length: 120 + text.length + 1,
      tid: 1,
      sid: 0n,
      lun: 0n,
      cid: 0,
      rest: [0, 0, 0, 0],
      force: 0,
      text: `${text}\0`,
    });
  });

  it.each([
    ["'new', 'device', lun => 1, text => 'path=/pool/disk.img,bstype=rdwr'", { mode: 2, op: 0, lun: 1n }],
    ["'update', 'device', lun => 1, text => 'thin_provisioning=1'", { mode: 2, op: 5, lun: 1n }],
    ["'bind', 'target', text => 'initiator-name=iqn.a'", { mode: 1, op: 3 }],
    ["'unbind', 'account', text => 'user=u'", { mode: 7, op: 4 }],
    ["'show', 'connection'", { mode: 6, op: 2, length: 120, text: '' }],
    [
      "'delete', 'connection', sid => 5_000_000_000, cid => 9",
      { mode: 6, op: 1, sid: 5_000_000_000n, cid: 9 },
    ],
    ["'delete', 'portal', text => 'portal=127.0.0.1:0'", { mode: 3, op: 1 }],
  ])('is sent call(%s)', async (call, wanted) => {
    expect((await perl(`$tgt->call(${call});`)).stderr).toBe('');
    expect(read(requests[0])).toMatchObject(wanted);
  });

  it('answers an error that is named with what was asked, without its text', async () => {
    answer.error = 14;
    const { code, stderr } = await perl("$tgt->call('new', 'account', text => 'user=u,password=s3cr3t');");
    expect(code).not.toBe(0);
    expect(stderr).toContain('tgtd: account exists (new account)');
    expect(stderr).not.toContain('s3cr3t');
  });

  it('tells who is logged in', async () => {
    answer.text = [
      'Session: 3',
      '    Connection: 1',
      '        Initiator: iqn.node-a',
      '        IP Address: 127.0.0.1',
      'Session: 7',
      '    Connection: 0',
      '        Initiator: iqn.node-b alias: none',
      '',
    ].join('\n');
    const { stdout } = await perl(
      'print join ",", map { "$_->{sid}/$_->{cid}/$_->{initiator}" } $tgt->connections;',
    );
    expect(stdout).toBe('3/1/iqn.node-a,7/0/iqn.node-b');
  });

  it('tells its portals', async () => {
    answer.text = 'Portal: 127.0.0.1:13260,1\nPortal: [::1]:13260,1\n';
    const { stdout } = await perl('print join " ", $tgt->portals;');
    expect(stdout).toBe('127.0.0.1:13260 [::1]:13260');
  });

  /** Reloads a target at a spec of these lines, on a tgtd that fails what `failing` names. */
  const reload = (failing: string, lines: string) =>
    perl(`
      require Role; require Target;
      package Fake;
      sub portals { return @{ $_[0]{portals} } }
      sub connections { return () }
      sub call {
          my ($self, $op, $mode, %with) = @_;
          die "no\n" if "$op $mode" eq '${failing}' && !$self->{well};
          push @{ $self->{portals} }, $with{text} =~ /portal=(.*)/ if "$op $mode" eq 'new portal';
      }
      package main;
      my $target = Target->new;
      my %spec = (address => '127.0.0.1', ${lines});
      $target->{tgt} = bless { portals => ['127.0.0.1:13260'] }, 'Fake';
      $target->{tgtd} = fork || exec 'sleep', '60';
      $target->{portal} = '127.0.0.1:13260';
      $target->{ports} = { 13_260 => 1 };
      { no warnings; *Target::read_spec = sub { return {%spec} }; *Target::read_secret = sub { return 'secret' };
        *Role::say_log = sub { }; *Target::start = sub { die "started\n" }; }
      for my $attempt (1, 2) {
          eval { $attempt == 1 ? $target->apply_spec : $target->tick; 1 } or $target->set_state('error', "$@" =~ s/\n//r);
          print "$target->{state} ", $target->{error}, ' ', $target->{tgtd} ? 'up' : 'down', ' ', $target->{portal}, "\n";
          $target->{tgt}{well} = 1;
      }
      kill 'KILL', $target->{tgtd} if $target->{tgtd};
    `);

  it('refuses a port, and the target is not ready until it has that port, which it tries by itself', async () => {
    const { stdout, stderr } = await reload('new portal', 'port => 13_261');
    expect(stderr).toBe('');
    expect(stdout.split('\n')).toEqual([
      'error port taken: cannot listen on 127.0.0.1:13261 up 127.0.0.1:13260',
      'ready  up 127.0.0.1:13261',
      '',
    ]);
  });

  it('fails in the middle of an admission, and the target begins anew rather than guess whom it admits', async () => {
    const { stdout, stderr } = await reload(
      'bind account',
      "port => 13_260, admit => 'iqn.a user-2 secret-2'",
    );
    expect(stderr).toBe('');
    expect(stdout.split('\n')[0]).toBe('error no down 127.0.0.1:13260');
    expect(stdout.split('\n')[1]).toContain('error started down');
  });

  /** What a tgtd is told when the admission changes from one spec line to another. */
  const changeAdmission = async (from: string, to: string, held = 0): Promise<string[]> => {
    const { stdout, stderr } = await perl(`
      require Role; require Target;
      package Fake;
      sub connections { return () }
      sub call { my ($self, $op, $mode, %with) = @_; push @asked, "$op $mode " . ($with{text} // $with{sid}) }
      package main;
      my $target = Target->new;
      $target->{tgt} = bless {}, 'Fake';
      { no warnings; *Target::read_secret = sub { return 'secret' }; *Target::connected = sub { return $held } }
      $target->{spec} = {${from}};
      $target->admit;
      @Fake::asked = ();
      $target->{ports} = { 13_260 => 1 };
      $target->{spec} = {${to}};
      our $held = ${String(held)};
      push @Fake::asked, $target->admit ? 'alone' : 'others';
      print join "\n", @Fake::asked;
    `);
    expect(stderr).toBe('');
    return stdout.split('\n');
  };

  it('is never left with a name that is admitted and no account: it would ask for no secret then', async () => {
    expect(await changeAdmission("admit => 'iqn.a u-1 s-1'", '')).toEqual([
      'unbind target initiator-name=iqn.a',
      'unbind account user=u-1',
      'delete account user=u-1',
      'alone',
    ]);
    expect(await changeAdmission('', "admit => 'iqn.a u-1 s-1'")).toEqual([
      'new account user=u-1,password=secret',
      'bind account user=u-1',
      'bind target initiator-name=iqn.a',
      'alone',
    ]);
  });

  it('is never told to admit another one: a new tgtd does, as this one may be at writes of the former', async () => {
    const to = (admit: string) => changeAdmission("admit => 'iqn.a u-1 s-1'", admit);
    expect(await to("admit => 'iqn.b u-2 s-2'")).toEqual(['others']);
    expect(await to("admit => 'iqn.a u-2 s-2'")).toEqual(['others']);
    expect(await to("admit => 'iqn.a u-1 s-1'")).toEqual(['alone']);
  });

  it('is replaced when somebody is still connected after it was closed', async () => {
    expect((await changeAdmission("admit => 'iqn.a u-1 s-1'", '', 1)).at(-1)).toBe('others');
  });

  it('that closes without an answer is an error', async () => {
    server.removeAllListeners('connection');
    server.on('connection', (socket) => socket.once('data', () => socket.end()));
    const { stderr } = await perl("$tgt->call('show', 'connection');");
    expect(stderr).toContain('tgtd closed the connection without an answer');
  });
});
