import { isIP } from 'node:net';
import { quote } from '../../lib/quote.js';
import type { Run } from '../command.js';
import { exitCodes, Failure } from '../failure.js';
import { json } from '../table.js';
import { votersIn } from '../values.js';
import { changeCluster, tellEtcd } from './change.js';
import { createToken, printJoin } from './tokens.js';

/** A host that others can join already gets a new token, and no more. */
export const initCluster: Run = async (call, around) => {
  const address = call.text('advertise') ?? '';
  if (isIP(address) === 0)
    throw new Failure(
      exitCodes.usage,
      `--advertise is ${quote(address)}: give the IP address of this host that the other hosts reach`,
    );
  const voters = votersIn(call, 'voters');
  const cluster = await changeCluster(call, around, {
    path: '/v1/cluster/init',
    body: { advertise: address, ...(voters === undefined ? {} : { voters }) },
    missing: ({ formation }, answer) =>
      formation?.advertise === (answer?.advertise ?? address)
        ? null
        : `the plugin does not serve at ${address} yet`,
  });
  tellEtcd(around, cluster);
  const made = await createToken(around, {}).catch((reason: unknown) => {
    if (!(reason instanceof Failure)) throw reason;
    const text = `other hosts can join this one, but there is no token yet: ${reason.message}. When that is mended: `;
    throw new Failure(reason.exitCode, `${text}docker openebs cluster token create`, { cause: reason });
  });
  const { token, expiresAt } = made;
  const advertise = cluster.formation?.advertise ?? address;
  if (call.json) around.print(json({ cluster: cluster.id, advertise, token, expiresAt }));
  else printJoin(around, made);
  return exitCodes.ok;
};
