-- What SQLite's functions on JSON text do, as far as queries.sql asks for it. Documents are text here too: PostgreSQL's
-- own jsonb refuses texts that hold \u0000. Indexes call them without a search_path, so they name their schema.
CREATE FUNCTION json_place(path text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT string_to_array(trim(BOTH '.' FROM translate(substr(path, 2), '[]', '.')), '.')
$$;
CREATE FUNCTION text_at(document text, path text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CAST(document AS json) #>> {schema}.json_place(path)
$$;
CREATE FUNCTION text_at(document text, first text, second text, third text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CAST(json_build_array(CAST(document AS json) #> {schema}.json_place(first), CAST(document AS json) #> {schema}.json_place(second),
                                 CAST(document AS json) #> {schema}.json_place(third)) AS text)
$$;
CREATE FUNCTION length_at(document text, path text) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT json_array_length(CAST(document AS json) #> {schema}.json_place(path))
$$;
CREATE FUNCTION with_value(document text, path text, value text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CAST(jsonb_set(CAST(document AS jsonb), {schema}.json_place(path), to_jsonb(value)) AS text)
$$;
CREATE FUNCTION each_of(document text) RETURNS TABLE (key text, value text) LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CAST(place - 1 AS text), element FROM json_array_elements_text(
        CASE WHEN json_typeof(CAST(document AS json)) = 'array' THEN CAST(document AS json) ELSE '[]' END
    ) WITH ORDINALITY AS listed (element, place)
    UNION ALL
    SELECT * FROM json_each_text(
        CASE WHEN json_typeof(CAST(document AS json)) = 'object' THEN CAST(document AS json) ELSE '{}' END
    )
$$;
CREATE FUNCTION each_of(document text, path text) RETURNS TABLE (key text, value text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT * FROM {schema}.each_of(coalesce({schema}.text_at(document, path), '[]'))
$$;
