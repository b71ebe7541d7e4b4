/** What docker asks of each plugin whenever somebody needs help: https://docs.docker.com/engine/extend/cli_plugins/ */
export function metadata(version: string): string {
  return `${JSON.stringify({
    SchemaVersion: '0.1.0',
    Vendor: 'openebs',
    Version: version,
    ShortDescription: 'Volumes, nodes and the cluster of the volume driver openebs',
    URL: 'https://github.com/openebs/openebs',
  })}\n`;
}
