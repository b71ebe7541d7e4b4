/**
 * PostgreSQL with checksums. One client inserts rows 1, 2, 3... each in a transaction of its own; a row is acknowledged
 * when its commit was answered. After a lost connection it begins at the first row that was not: that one may be
 * there already.
 */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { sleep, waitFor } from '../support/exec.js';
import type { LabHost } from '../support/lab.js';
import { createVolume } from '../support/product.js';
import { postgresPrograms as bin } from './image.js';
import type { Workload } from './workload.js';

const server = `
  set -e
  if [ ! -s /data/PG_VERSION ]; then ${bin}/initdb --pgdata=/data --data-checksums --no-locale --encoding=UTF8 --auth=trust >/dev/null; fi
  rm -f /data/postmaster.pid
  exec ${bin}/postgres -D /data -c jit=off -c listen_addresses= -c unix_socket_directories=/tmp -c shared_buffers=16MB \
    -c max_wal_size=64MB -c checkpoint_timeout=30s -c fsync=on -c synchronous_commit=on`;

/**
 * PostgreSQL ends and recovers by itself when an fsync tells of a write that failed before, which may be long after the
 * fault, and in the middle of a check.
 */
const AWAY =
  /recovery mode|starting up|shutting down|not yet accepting|closed the connection|terminating connection|is not running/;

export async function startDatabase(host: LabHost, name: string): Promise<Workload> {
  await createVolume(host, name, { size: '2G', uid: '1234', gid: '1234', mode: '0700' });
  await host.ok(
    ...[
      'run',
      '-d',
      '--name',
      name,
      '--restart',
      'always',
      '--stop-timeout',
      '60',
      '--stop-signal',
      'SIGINT',
    ],
    ...['--user', '1234', '--network', 'none', '-v', `${name}:/data`, 'soak', 'sh', '-c', server],
  );
  const sql = (text: string) =>
    host.docker(
      'exec',
      name,
      `${bin}/psql`,
      '-h',
      '/tmp',
      '-d',
      'postgres',
      '-qAt',
      '-v',
      'ON_ERROR_STOP=1',
      '-c',
      text,
    );
  const mustSql = async (text: string): Promise<string> => {
    const { code, stdout, stderr } = await sql(text);
    if (code !== 0) throw new Error(`${text}: ${stderr}`);
    return stdout.trim();
  };
  const answers = () =>
    waitFor('the database answers', async () => (await sql('select 1')).code === 0, { timeoutMs: 180_000 });
  await answers();
  await mustSql(
    'create table if not exists rows (n bigint primary key, payload text not null, sum text not null)',
  );

  const client = createClient(host, name);
  async function checkOnce(): Promise<void> {
    await answers();
    const upTo = client.acked();
    const found = await mustSql(
      `select count(*), min(n), coalesce(max(n), 0) from rows where n <= ${String(upTo)}`,
    );
    if (upTo > 0 && found !== `${String(upTo)}|1|${String(upTo)}`)
      throw new Error(
        `${name}: rows 1 to ${String(upTo)} were committed; count, least, greatest are ${found}`,
      );
    const wrong = await mustSql('select count(*) from rows where sum <> md5(payload)');
    if (wrong !== '0') throw new Error(`${name}: ${wrong} rows are damaged`);
    const check = await host.docker(
      'exec',
      name,
      `${bin}/pg_amcheck`,
      '-h',
      '/tmp',
      '-d',
      'postgres',
      '--install-missing',
    );
    if (check.code !== 0) throw new Error(`${name}: pg_amcheck: ${check.stdout}${check.stderr}`);
  }

  return {
    name,
    acked: () => Promise.resolve(client.acked()),
    async check() {
      for (let tries = 3; ; tries--) {
        try {
          await checkOnce();
          return;
        } catch (reason) {
          if (tries === 1 || !AWAY.test(String(reason))) throw reason;
        }
      }
    },
    close: () => client.close(),
  };
}

interface Client {
  acked(): number;
  close(): Promise<void>;
}

function createClient(host: LabHost, name: string): Client {
  let acked = 0;
  const closing = new AbortController();
  let session: ChildProcessWithoutNullStreams | undefined;

  /** Inserts until the session ends, whatever ends it. */
  function insertAll(): Promise<void> {
    const command = [
      'exec',
      '-i',
      name,
      `${bin}/psql`,
      '-h',
      '/tmp',
      '-d',
      'postgres',
      '-qAt',
      '-v',
      'ON_ERROR_STOP=1',
    ];
    const psql = spawn('docker', ['-H', `unix://${host.socket}`, ...command], { stdio: 'pipe' });
    session = psql;
    const send = (): void => {
      const row = String(acked + 1);
      const payload = `repeat(md5('${row}'), 8)`;
      psql.stdin.write(
        `insert into rows values (${row}, ${payload}, md5(${payload})) on conflict (n) do nothing;\nselect 'acked ${row}';\n`,
      );
    };
    let text = '';
    psql.stdout.setEncoding('utf8').on('data', (part: string) => {
      text += part;
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
        if (text.slice(0, end) === `acked ${String(acked + 1)}`) {
          acked += 1;
          if (!closing.signal.aborted) send();
        }
        text = text.slice(end + 1);
      }
    });
    psql.stdin.on('error', () => undefined);
    psql.stderr.resume();
    send();
    return new Promise((resolve) => {
      psql.on('error', () => {
        resolve();
      });
      psql.on('close', () => {
        resolve();
      });
    });
  }

  const done = (async () => {
    while (!closing.signal.aborted) {
      await insertAll();
      await sleep(300);
    }
  })();
  return {
    acked: () => acked,
    async close() {
      closing.abort();
      session?.kill('SIGKILL');
      await done;
    },
  };
}
