/**
 * The plugin's process: settings, socket, application, signals.
 *
 * The socket listens before the application is even loaded. The engine looks for it half a second after the
 * process' start, and disables a plugin that is late; loading all packages takes longer than that on a busy host.
 */
import { parseConfig } from './config.js';
import { AppError } from './errors.js';
import { armFailPoints } from './lib/fail-points.js';
import { createLog } from './log.js';
import { createVolumeDriver } from './volume-driver/server.js';
import { StartingService } from './volumes/starting-service.js';

/**
 * dockerd kills a plugin 10 s after SIGTERM. Calls in flight have the first 3 s (server.ts); the rest is for the goodbye
 * to the cluster, without which this node counts as away while its containers go on.
 */
const EXIT_MS = 8500;

function readConfig() {
  try {
    return parseConfig(process.env);
  } catch (reason) {
    createLog('info').fatal(AppError.from(reason).message);
    process.exit(78);
  }
}

// What is made without a mode of its own is for root alone, from its first moment.
process.umask(0o077);
const config = readConfig();
// No setting of config.json: only a test that makes a plugin of its own gives it.
armFailPoints(process.env['OPENEBS_FAIL_POINTS']);
const log = createLog(config.logLevel);
const service = new StartingService();
const driver = createVolumeDriver({
  service,
  log,
  waitsFor: () => service.waitingFor,
});
const socketPath = '/run/docker/plugins/openebs.sock';

process.on('unhandledRejection', (err) => {
  log.fatal({ err }, 'a promise nobody waited for failed: stopping, the engine starts the plugin again');
  process.exit(70);
});

await driver.listen(socketPath);
log.info({ socket: socketPath, startMs: Math.round(performance.now()) }, 'listening');

const { startApp } = await import('./app.js');
const app = startApp(config, service, {
  log,
  hostRoot: '/host',
  mountRoot: '/mnt/openebs',
  appDirectory: '/app',
  restart(why) {
    log.error({ why }, 'stopping: the engine starts the plugin again');
    stop();
  },
});

let stopping = false;

/** Once, whoever asks first: the engine may end a process that is about to end for a new start. */
function stop(): void {
  if (stopping) return;
  stopping = true;
  // Mounts and the data plane stay as they are: running containers live on them.
  setTimeout(() => process.exit(0), EXIT_MS).unref();
  void driver
    .close()
    .then(() => app.close())
    .then(() => process.exit(0));
}

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, () => {
    log.info({ signal }, 'stopping');
    stop();
  });
}
