# SPDX-License-Identifier: MIT
"""xmllint: parse, format, XPath, validation and error paths of libxml2 on a large document."""

NEEDS = ["xmllint"]
WEIGHT = 2


def document(items):
    parts = ["<?xml version='1.0'?>\n<!DOCTYPE list [<!ELEMENT list (item*)>"
             "<!ELEMENT item (name,text?)><!ATTLIST item id ID #REQUIRED>"
             "<!ELEMENT name (#PCDATA)><!ELEMENT text (#PCDATA)><!ENTITY e 'entity &#169;'>]>\n<list>"]
    for i in range(items):
        text = f"<text>{'x' * (i % 90)} &e; &amp; {i * i}</text>" if i % 3 else ""
        parts.append(f"<item id='i{i}'><name>n{i % 101}</name>{text}</item>")
    return "".join(parts) + "</list>\n"


def run(stage):
    stage.write("d.xml", document(60000 if stage.long else 20000))
    stage.write("bad.xml", document(300).replace("</name>", "</nam>", 1))
    stage.write("invalid.xml", document(300).replace("id='i7'", "id='i8'"))
    stage.run(["xmllint", "--format", "d.xml"])
    stage.run(["xmllint", "--valid", "--noent", "--c14n", "d.xml"])
    stage.run(["xmllint", "--xpath", "sum(//item[name='n7']/@*[starts-with(., 'i')]/../text/text()"
               "[string-length(.) > 5]/string-length(.))", "d.xml"], expect=None)
    stage.run(["xmllint", "--xpath", "//item[name='n7'][position() mod 5 = 0]", "d.xml"])
    stage.run(["xmllint", "--stream", "--noout", "d.xml"])
    stage.run(["xmllint", "--sax", "--noout", "bad.xml"], expect=None)
    stage.run(["xmllint", "--repeat", "--noout", "invalid.xml"])
    stage.run(["xmllint", "--valid", "--noout", "invalid.xml"], expect=4)
    stage.run(["xmllint", "--noout", "bad.xml"], expect=1)
    stage.run(["xmllint", "--huge", "--pretty", "2", "d.xml"])
