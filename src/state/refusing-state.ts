import type { AppError } from '../errors.js';
import type { State } from './state.js';

/** Shared state that must not be used: each call says why, watches say nothing. */
export function createRefusingState(refusal: AppError): State {
  const refuse = () => Promise.reject(refusal);
  return {
    get: refuse,
    range: refuse,
    transact: refuse,
    lease: refuse,
    watch: () => ({ close: () => undefined }),
    close: () => Promise.resolve(),
  };
}
