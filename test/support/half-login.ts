/**
 * An iSCSI login that stops after its secret was accepted, and goes on when it is told: what a host does that is
 * suspended in the middle of a login, or means harm. A program of its own, as it runs in a lab host's network.
 * usage: node half-login.ts PORT IQN INITIATOR USER SECRET_FILE GO_FILE
 * It prints `held`, and after GO_FILE is there `written`, `refused` or `cut`.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

const [port = '', target = '', initiator = '', user = '', secretFile = '', goFile = ''] =
  process.argv.slice(2);
const secret = readFileSync(secretFile, 'utf8');
const BLOCK = 512;

const socket = connect(Number(port), '127.0.0.1');
let received = Buffer.alloc(0);
let over = false;
socket.on('data', (data) => (received = Buffer.concat([received, data])));
socket.on('close', () => (over = true));
socket.on('error', () => (over = true));

/** One PDU (RFC 7143, 11): its header, and its data padded to four bytes. */
function send(head: Uint8Array, text: Uint8Array): void {
  const header = Buffer.alloc(48);
  header.set(head);
  header.writeUIntBE(text.length, 5, 3);
  socket.write(Buffer.concat([header, text, Buffer.alloc((4 - (text.length % 4)) % 4)]));
}

async function next(): Promise<{ head: Buffer; text: string } | undefined> {
  for (;;) {
    const length = received.length >= 48 ? received.readUIntBE(5, 3) : Infinity;
    const whole = 48 + length + ((4 - (length % 4)) % 4);
    if (received.length >= whole) {
      const answer = { head: received.subarray(0, 48), text: received.toString('latin1', 48, 48 + length) };
      received = received.subarray(whole);
      return answer;
    }
    if (over) return undefined;
    await delay(5);
  }
}

/** A login request: flags hold the stage, the next stage and whether to go there. */
async function login(flags: number, pairs: Readonly<Record<string, string>>) {
  const head = Buffer.alloc(48);
  head.set([0x43, flags]);
  head.set([0x80, 0x12, 0x34, 0x56, 0, 1], 8);
  head.writeUInt32BE(1, 16);
  head.writeUInt32BE(1, 24);
  head.writeUInt32BE(1, 28);
  const text = Object.entries(pairs).map(([key, value]) => `${key}=${value}\0`);
  send(head, Buffer.from(text.join('')));
  const answer = await next();
  if (answer && answer.head.readUInt16BE(36) !== 0) return undefined;
  return answer && new Map(answer.text.split('\0').map((pair) => pair.split('=', 2) as [string, string]));
}

/** Writes LUN 1's first block; answers the SCSI status. */
async function write(commandNumber: number): Promise<number | undefined> {
  const head = Buffer.alloc(48);
  head.set([0x01, 0xa1]);
  head.set([0, 1], 8);
  head.writeUInt32BE(7, 16);
  head.writeUInt32BE(BLOCK, 20);
  head.writeUInt32BE(commandNumber, 24);
  head.writeUInt32BE(commandNumber, 28);
  head.set([0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], 32);
  send(head, Buffer.alloc(BLOCK, 'FENCED! '));
  return (await next())?.head[3];
}

async function run(): Promise<string> {
  await login(0x00, {
    InitiatorName: initiator,
    TargetName: target,
    SessionType: 'Normal',
    AuthMethod: 'CHAP',
  });
  const challenge = await login(0x00, { CHAP_A: '5' });
  const id = Number(challenge?.get('CHAP_I'));
  const bytes = Buffer.from((challenge?.get('CHAP_C') ?? '').slice(2), 'hex');
  const hash = createHash('md5')
    .update(Buffer.concat([Buffer.of(id), Buffer.from(secret), bytes]))
    .digest('hex');
  if (!(await login(0x81, { CHAP_N: user, CHAP_R: `0x${hash}` }))) return 'the secret was refused';
  process.stdout.write('held\n');
  while (!existsSync(goFile)) await delay(20);
  if (!(await login(0x87, { HeaderDigest: 'None', DataDigest: 'None' }))) return over ? 'cut' : 'refused';
  // A new session's first command is told of the reset that it missed.
  await write(1);
  return (await write(2)) === 0 ? 'written' : 'refused';
}

process.stdout.write(`${await run()}\n`);
process.exit(0);
