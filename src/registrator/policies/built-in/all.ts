import { type BuiltInName, builtInNames } from '../../../config-values.js';
import type { PolicyKind } from '../library/user-policy.js';
import { type BuiltIn, instanceOf } from './built-in.js';
import { loadbalancer } from './loadbalancer.js';
import { objects } from './objects.js';
import { services } from './services/services.js';
import { skydns } from './skydns.js';
import { vsm } from './vsm.js';

/** A name without a policy does not compile. */
const all: Readonly<Record<BuiltInName, PolicyKind>> = {
  objects: kindOf(objects),
  services: kindOf(services),
  vsm: kindOf(vsm),
  skydns: kindOf(skydns),
  loadbalancer: kindOf(loadbalancer),
};

export function builtIn(name: string): PolicyKind | null {
  const known = builtInNames.find((one) => one === name);
  return known === undefined ? null : all[known];
}

function kindOf<C>(policy: BuiltIn<C>): PolicyKind {
  return {
    name: policy.name,
    isConfigured: true,
    instance: (name, config) => instanceOf(policy, name, config),
  };
}
