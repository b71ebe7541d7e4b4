import { expect, it } from 'vitest';
import { labelsOf } from '../../../src/cli/node-settings.js';

it.each([
  [['a=b'], { a: 'b' }],
  [['a=b=c', 'd='], { a: 'b=c', d: '' }],
  [['a-'], { a: null }],
  [['a-=b'], { 'a-': 'b' }],
  [['a--'], { 'a-': null }],
])('labels %j', (texts, labels) => {
  expect(labelsOf(texts)).toEqual(labels);
});

it.each([
  [['a'], 'label "a": give KEY=VALUE to set it, KEY- to remove it'],
  [['=b'], 'label "=b": give KEY=VALUE to set it, KEY- to remove it'],
  [['-'], 'label "-": give KEY=VALUE to set it, KEY- to remove it'],
  [['a=b', 'a-'], 'label "a" is there more than once'],
])('labels %j are refused', (texts, message) => {
  expect(() => labelsOf(texts)).toThrow(expect.objectContaining({ exitCode: 2, message }) as Error);
});
