import type Docker from 'dockerode';

export interface EngineInfo {
  readonly id: string;
  readonly hostname: string;
  readonly version: string;
  readonly apiVersion: string;
  readonly labels: readonly string[];
  /** A directory of the host. */
  readonly dataRoot: string;
}

export async function readInfo(docker: Docker, abortSignal: AbortSignal): Promise<EngineInfo> {
  const info = await about(docker).info({ abortSignal });
  const version = await about(docker).version({ abortSignal });
  return {
    id: info.ID,
    hostname: info.Name,
    version: version.Version,
    apiVersion: version.ApiVersion,
    labels: info.Labels ?? [],
    dataRoot: info.DockerRootDir,
  };
}

export async function pings(docker: Docker, abortSignal: AbortSignal): Promise<true> {
  await about(docker).ping({ abortSignal });
  return true;
}

/** What dockerode takes and gives, and its types do not say. A call that is not aborted keeps its socket. */
interface About {
  ping(options: Abortable): Promise<unknown>;
  info(options: Abortable): Promise<EngineInfoAnswer>;
  version(options: Abortable): Promise<Docker.DockerVersion>;
}

interface Abortable {
  readonly abortSignal: AbortSignal;
}

// The double cast: the package's own declarations of these three have no parameter, so the types do not overlap.
const about = (docker: Docker) => docker as unknown as About;

/** The types are the engine API's. */
interface EngineInfoAnswer {
  ID: string;
  Name: string;
  Labels: string[] | null;
  DockerRootDir: string;
}
