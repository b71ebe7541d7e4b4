import type { VotersRequest } from '../../admin/messages.js';
import type { Run } from '../command.js';
import { exitCodes } from '../failure.js';
import { json } from '../table.js';

/** It is a wish: hosts get and lose members one by one, while etcd goes on. */
export const setVoters: Run = async (call, around) => {
  const voters = Number(call.names[0]) as VotersRequest['voters'];
  const request: VotersRequest = { voters };
  await around.admin.post('/v1/cluster/voters', request);
  if (call.json) around.print(json({ voters }));
  else {
    around.print(`${String(voters)}\n`);
    around.complain(
      'the members are changed one by one: docker openebs cluster status shows how far that is\n',
    );
  }
  return exitCodes.ok;
};
