/*
 * json_text: what readers and writers of JSON agree on.
 */
#ifndef MOONPOOL_JSON_TEXT_H
#define MOONPOOL_JSON_TEXT_H

#define JSON_DEPTH_MOST 100 /* of arrays and objects in each other */

/* The first byte from s on that is in no string as it is (RFC 8259 7 and 8.1): a quote, a
 * backslash, a control character or what is not UTF-8; end if there is none.
 */
const char *json_text_end(const char *s, const char *end);

#endif
