import type { Group } from '../case.js';
import { bodies } from './bodies.js';
import { concurrency } from './concurrency.js';
import { idempotence } from './idempotence.js';
import { latency } from './latency.js';
import { lookup } from './lookup.js';
import { mount } from './mount.js';
import { names } from './names.js';
import { outage } from './outage.js';
import { wire } from './wire.js';

/** In the order of the run. */
export const groups: readonly Group[] = [
  ...[wire, bodies, names, idempotence, lookup],
  ...[mount, concurrency, latency, outage],
];
