import { expect, test } from 'vitest';
import { keysAt, recipeJsonSchema, schemasAt } from './json-schema.ts';

const schema = recipeJsonSchema();

test('describes the recipe as it is written', () => {
  expect(schema).toMatchObject({
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    type: 'object',
    additionalProperties: false,
  });
  expect((schema as { required?: string[] }).required).toEqual([
    'version',
    'name',
    'student',
    'data',
    'method',
    'training',
  ]);
});

test('is walked through lists and unions', () => {
  expect(keysAt(schema, ['teachers', 3])).toContain('weight');
  expect(keysAt(schema, ['student', 'train', 'lora'])).toEqual([
    'rank',
    'alpha',
    'targets',
    'blocks',
    'rslora',
    'dora',
    'text',
  ]);
  expect(keysAt(schema, ['method'])).toContain('guidance');
  expect(schemasAt(schema, ['nowhere', 0])).toEqual([]);
});
