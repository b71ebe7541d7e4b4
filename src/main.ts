/** The plugin's process: settings, application, signals. */
import { buildApp } from './app.js';
import { parseConfig } from './config.js';
import { AppError } from './errors.js';
import { createLog } from './log.js';

/** dockerd kills a plugin 10 s after SIGTERM. */
const EXIT_MS = 5000;

function readConfig() {
  try {
    return parseConfig(process.env);
  } catch (reason) {
    createLog('info').fatal(AppError.from(reason).message);
    process.exit(78);
  }
}

const config = readConfig();
const log = createLog(config.logLevel);
const app = buildApp(config, log, {
  hostRoot: '/host',
  mountRoot: '/mnt/openebs',
  socketPath: '/run/docker/plugins/openebs.sock',
  imageDirectory: '/app',
});

process.on('unhandledRejection', (err) => {
  log.fatal({ err }, 'a promise nobody waited for failed: stopping, the engine starts the plugin again');
  process.exit(70);
});

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, () => {
    log.info({ signal }, 'stopping');
    // Mounts and the data plane stay as they are: running containers live on them.
    setTimeout(() => process.exit(0), EXIT_MS).unref();
    void app.close().then(() => process.exit(0));
  });
}

await app.listen();
