/** What is wrong with what a host observes: the engine's events, the journal, the registrator. */
import type { ObservedMessage } from '../admin/messages.js';
import { type Finding, note, wrong } from './finding.js';
import { count, few } from './table.js';

export function ofObservation(observed: ObservedMessage | undefined): Finding[] {
  if (observed === undefined) return [];
  const { stream, journal, registrator } = observed;
  const found: Finding[] = [];
  if (!stream.connected) {
    const todo = 'see that the engine answers: docker version';
    found.push(
      wrong('events', "the engine's events are not received", todo, 'the plugin connects again by itself'),
    );
  }
  if (journal.lost > 0)
    found.push(
      note('events', `${count(journal.lost, 'event')} lost for the journal since the plugin's start`),
    );
  return [...found, ...ofRegistrator(registrator)];
}

function ofRegistrator(registrator: ObservedMessage['registrator']): Finding[] {
  if (registrator === null) return [];
  const policies = registrator.policies
    .filter(({ problem }) => problem !== null)
    .map(({ name, from, running, problem }) =>
      wrong(
        `policy ${name}`,
        `${problem ?? ''} (${from})`,
        'correct it: it is read again within seconds',
        running ? 'what it gave before stays' : 'it registers nothing',
      ),
    );
  const backends = Object.entries(registrator.backends);
  const foreign = backends.flatMap(([, backend]) => backend.foreign);
  const conflicts = backends.flatMap(([, backend]) => backend.conflicts);
  return [
    ...policies,
    ...(registrator.ready
      ? []
      : [note('registrator', 'not all that was there at its start is registered yet')]),
    ...(foreign.length > 0
      ? [
          note(
            'registrator',
            `written by somebody else, and left alone: ${few(foreign)}`,
            'remove them, or let the policy overwrite them',
          ),
        ]
      : []),
    ...(conflicts.length > 0
      ? [
          note(
            'registrator',
            `wanted with different values: ${few(conflicts)}`,
            'let hosts and policies agree, or the policy say how to merge',
          ),
        ]
      : []),
  ];
}
