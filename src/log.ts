import { pino, type DestinationStream, type Logger } from 'pino';

export type Log = Logger;
export const logLevels = ['debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof logLevels)[number];

/**
 * NDJSON to stdout: dockerd files a plugin's stdout under level info and its stderr under error.
 * Fields have fixed names: requestId volume node target container err durationMs. Secrets never get here, and
 * the fields that hold them in records are redacted all the same.
 */
export function createLog(level: LogLevel, destination?: DestinationStream): Log {
  const options = {
    level,
    base: {},
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    redact: {
      paths: ['*.secret', '*.chapSecret', 'chapSecret', 'password', '*.password'],
      censor: '[redacted]',
    },
    formatters: { level: (label: string) => ({ level: label }) },
  };
  return destination ? pino(options, destination) : pino(options);
}
