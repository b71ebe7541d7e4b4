import { createServer } from 'node:http';

export interface Hooks {
  /** The shell command that runs the action of that name, and fails when it does. */
  command(action: string): string;
  close(): Promise<void>;
}

/** Actions of a test as shell commands, for a program that takes commands. The socket's path must be short. */
export async function serveHooks(
  socketPath: string,
  actions: Readonly<Record<string, () => Promise<unknown>>>,
): Promise<Hooks> {
  const server = createServer((request, response) => {
    const action = actions[(request.url ?? '').slice(1)];
    const done = action?.() ?? Promise.reject(new Error(`there is no action ${request.url ?? ''}`));
    done.then(
      () => response.end(),
      (reason: unknown) => response.writeHead(500).end(String(reason)),
    );
  });
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  return {
    command(action) {
      const answered = 'r=>{process.exitCode=r.statusCode===200?0:1;r.pipe(process.stderr)}';
      const get = `require("http").get({socketPath:"${socketPath}",path:"/${action}"},${answered})`;
      return `${process.execPath} -e '${get}'`;
    },
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => {
          resolve();
        });
      }),
  };
}
