import { expect, it } from 'vitest';
import { type Engine, EngineRefusal } from '../../../src/cli/engine-client.js';
import { explainUnreachable } from '../../../src/cli/unreachable.js';

const socketPath = '/run/openebs/admin.sock';

/** @param answer to the question for plugins; an Error is thrown */
function engine(answer: unknown): Engine {
  return {
    endpoint: 'unix:///var/run/docker.sock',
    socketPath: '/var/run/docker.sock',
    ask: (path) => {
      expect(path).toBe('/plugins');
      return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
    },
  };
}

const failing = (code: string) => engine(Object.assign(new Error(`connect ${code}`), { code }));
const plugin = (Enabled: boolean, Name = 'openebs:latest') => ({
  Name,
  Enabled,
  Config: { Interface: { Socket: 'openebs.sock' } },
});
const other = { Name: 'vieux/sshfs:latest', Enabled: true, Config: { Interface: { Socket: 'sshfs.sock' } } };

async function why(
  found: Engine,
  code = 'ENOENT',
  more: { isRoot?: boolean; isGiven?: boolean } = {},
): Promise<string> {
  const situation = { socketPath, isGiven: false, isRoot: true, engine: found, ...more };
  const failure = await explainUnreachable(situation, code, 'detail');
  expect(failure.exitCode).toBe(3);
  return failure.message;
}

it('says why the plugin cannot be reached, and what to do', async () => {
  expect(await why(engine([]))).toMatch(/is not installed on this host: install it with `make up`/);
  expect(await why(engine(null))).toMatch(/is not installed/);
  expect(await why(engine([other]))).toMatch(/is not installed/);
  expect(await why(engine([other, plugin(false)]))).toBe(
    'the plugin openebs is installed, but disabled: docker plugin enable openebs',
  );
  expect(await why(engine([plugin(false, 'reg:5000/openebs:v1')]))).toMatch(
    /docker plugin enable reg:5000\/openebs:v1$/,
  );
  expect(await why(engine([plugin(false, 'openebs:old'), plugin(true)]), 'ECONNREFUSED')).toMatch(
    /^the plugin openebs is enabled, but nobody listens at .* yet: .*Try again in a few seconds; if that lasts, see its log/,
  );
  expect(await why(failing('ECONNREFUSED'))).toMatch(
    /neither does the Docker engine at unix:.*start it \(systemctl/,
  );
  expect(await why(failing('ENOENT'), 'ENOENT', { isRoot: false })).toMatch(/start it .*, as root$/);
  expect(await why(failing('EACCES'), 'ENOENT', { isRoot: false })).toMatch(
    /needs root: run the same as root$/,
  );
  expect(await why(engine(new EngineRefusal('/plugins', 500)))).toMatch(
    /it answers \/plugins with status 500/,
  );
});

it('does not ask the engine where the answer is plain', async () => {
  const nobodyAsks = engine(new Error('asked'));
  expect(await why(nobodyAsks, 'EACCES')).toBe(
    `${socketPath} is for root alone: run the same as root (sudo docker openebs ...)`,
  );
  expect(await why(nobodyAsks, 'ETIMEDOUT')).toMatch(
    /^the plugin does not answer at .* \(detail\): see its log/,
  );
  expect(await why(nobodyAsks, 'ENOENT', { isGiven: true })).toMatch(
    /^nobody listens at .*: correct --socket/,
  );
  expect(await why(nobodyAsks, 'EMFILE')).toBe(`the plugin cannot be reached at ${socketPath}: detail`);
});
