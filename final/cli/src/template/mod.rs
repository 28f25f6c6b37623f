//! `--format`: the part of Go's text/template that Docker's users write.
//!
//! ```text
//! {{.Config.Image}}   {{json .Mounts}}   {{join .Names ","}}   {{if .Labels}}...{{else}}...{{end}}
//! {{range $port, $to := .NetworkSettings.Ports}}{{$port}} {{(index $to 0).HostPort}}{{end}}
//! ```
//!
//! It works on JSON: what `inspect` shows is what a template can name. A field of the top that is not there is an error that tells the
//! fields that are; deeper, where keys are data, it is `<no value>`, as in Go.
//!
//! In reading order: `parse` (text to a tree), `evaluate` (the tree and a value to text), `functions`.
//! See the documentation of Go's package text/template, and Docker's "Format command and log output".

mod evaluate;
mod functions;
mod parse;

use serde_json::Value;

/// A template, ready for any number of values.
#[derive(Debug)]
pub(crate) struct Template {
    nodes: Vec<parse::Node>,
    /// Whether it began with `table`: a header line, and columns.
    table: bool,
}

impl Template {
    /// Reads a template. `json` alone means all of the value.
    ///
    /// # Errors
    /// Where it is wrong, in words.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (text, table) = match text.strip_prefix("table ") {
            Some(rest) => (rest, true),
            None if text == "json" => ("{{json .}}", false),
            None => (text, false),
        };
        // A shell leaves a backslash as it is.
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        Ok(Self { nodes: parse::parse(&text)?, table })
    }

    /// What it makes of one value.
    ///
    /// # Errors
    /// A field that is not there, or a function that cannot be applied.
    pub(crate) fn render(&self, value: &Value) -> Result<String, String> {
        evaluate::render(&self.nodes, value)
    }

    /// What it makes of a list: a line for each, or a table whose header has the fields' names.
    ///
    /// # Errors
    /// As for [`Template::render`].
    pub(crate) fn render_list(&self, values: &[Value], header: &Value) -> Result<String, String> {
        if !self.table {
            return values.iter().map(|value| Ok(self.render(value)? + "\n")).collect();
        }
        let cells =
            |value: &Value| Ok(self.render(value)?.split('\t').map(str::to_owned).collect::<Vec<_>>());
        let rows = values.iter().map(cells).collect::<Result<Vec<_>, String>>()?;
        let header = cells(header)?;
        let header: Vec<_> = header.iter().map(String::as_str).collect();
        Ok(crate::format::table(&header, rows) + "\n")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(template: &str) -> Result<String, String> {
        let value = json!({"Name": "web", "Up": true, "Size": 5, "Names": ["a", "b"], "None": null,
            "Ports": {"80/tcp": [{"HostPort": "8080"}], "9/udp": null}, "Labels": {"k": "v"}, "Empty": {}});
        Template::parse(template)?.render(&value)
    }

    #[test]
    fn fields_and_functions() {
        for (template, text) in [
            ("{{.Name}}: {{.Size}} {{.Up}}", "web: 5 true"),
            ("{{ json .Names }}", r#"["a","b"]"#),
            ("{{.Names}} {{.Labels}}", "[a b] map[k:v]"),
            ("{{join .Names \", \" | upper}}", "A, B"),
            ("{{len .Names}}{{index .Names 1}}{{index .Labels \"k\"}}", "2bv"),
            ("{{.Labels.missing}}", "<no value>"),
            ("{{printf \"%s-%d|%q\" .Name .Size .Name}}", "web-5|\"web\""),
            ("a {{- .Name -}} b", "awebb"),
            ("{{/* nothing */}}x\\ty", "x\ty"),
            ("{{(index (index .Ports \"80/tcp\") 0).HostPort}}", "8080"),
            (
                "{{title .Name}} {{lower \"A\"}} {{truncate .Name 2}} {{index (split \"a:b\" \":\") 1}}",
                "Web a we b",
            ),
            ("{{slice .Name 1}}{{slice .Name 0 2}}{{slice .Names 1 2}}{{pad .Name 1 2}}", "ebwe[b] web  "),
            (
                "{{printf \"%-5s|%5d|%.2s|%5.1q|%t%%\" .Name .Size .Name .Name .Up}}",
                "web  |    5|we|    \"|true%",
            ),
            (
                "<{{index .Labels \"x\"}}{{range index .Labels \"x\"}}x{{end}}>{{eq (index .Labels \"x\") \"\"}}",
                "<>true",
            ),
            ("{{.Ports}}", "map[80/tcp:[map[HostPort:8080]] 9/udp:<no value>]"),
        ] {
            assert_eq!(render(template).as_deref(), Ok(text), "{template}");
        }
    }

    #[test]
    fn blocks() {
        for (template, text) in [
            ("{{if .Up}}up{{else}}down{{end}}", "up"),
            ("{{if .Empty}}a{{else if eq .Size 5}}b{{else}}c{{end}}", "b"),
            ("{{if and .Up (not .None)}}y{{end}}{{if or .None .Empty}}n{{end}}", "y"),
            ("{{range .Names}}<{{.}}>{{end}}{{range .Empty}}x{{else}}none{{end}}", "<a><b>none"),
            (
                "{{range $p, $to := .Ports}}{{$p}}={{with $to}}{{(index . 0).HostPort}}{{else}}-{{end}} {{end}}",
                "80/tcp=8080 9/udp=- ",
            ),
            ("{{range $n := .Names}}{{$n}}{{$.Name}}{{end}}", "awebbweb"),
            ("{{with $x := .Name}}{{$x}}{{end}}", "web"),
        ] {
            assert_eq!(render(template).as_deref(), Ok(text), "{template}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(render("{{.Nmae}}").unwrap_err().contains("Name"));
        for template in [
            "{{",
            "{{.Name",
            "{{end}}",
            "{{if .Up}}",
            "{{foo .Name}}",
            "{{.Name | }}",
            "{{\"}}",
            "{{)}}",
            "{{else}}",
            "{{range}}{{end}}",
            "{{$x}}",
            "{{slice .Name 2 1}}",
            "{{slice .Name 0 9}}",
            "{{pad .Name 1001 0}}",
            "{{printf \"%1001s\" .Name}}",
            "{{printf \"%x\" .Name}}",
            "{{printf \"%\" .Name}}",
        ] {
            render(template).unwrap_err();
        }
    }

    #[test]
    fn a_table_has_a_header() {
        let template = Template::parse("table {{.Name}}\\t{{.Size}}").unwrap();
        let text = template
            .render_list(&[json!({"Name": "web", "Size": 5})], &json!({"Name": "NAME", "Size": "SIZE"}));
        assert_eq!(text.unwrap(), "NAME      SIZE\nweb       5\n");
    }

    #[test]
    fn what_is_nested_without_end_is_refused() {
        let inner = |open: &str, close: &str| {
            format!("{{{{{}.Name{}}}}}", open.repeat(100_000), close.repeat(100_000))
        };
        assert!(render(&inner("(", ")")).unwrap_err().contains("nested"));
        assert!(render(&"{{if .Up}}".repeat(100_000)).unwrap_err().contains("nested"));
        assert!(
            render(&("{{if .None}}".to_owned() + &"{{else if .None}}".repeat(100_000) + "{{end}}"))
                .unwrap_err()
                .contains("nested")
        );
    }

    proptest::proptest! {
        #[test]
        fn no_template_panics(
            text in "\\PC{0,40}",
            parts in proptest::collection::vec(proptest::sample::select(vec![
                "{{", "}}", "{{- ", " -}}", "{{if ", "{{range ", "{{with ", "{{else}}", "{{else if ", "{{end}}", ".", ".Name", ".Names", ".Ports",
                "$", "$x", ":=", "|", "(", ")", ",", " ", "\"", "`", "\\", "-1", "1", "99999999999999999999", "1e9", "nil", "eq", "ne", "lt",
                "index", "len", "join", "split", "printf", "\"%s%q%\"", "\"%-9.2s\"", "slice", "pad", "truncate", "json", "title", "and", "or", "not", "/*", "*/", "\u{df}", "\u{1F600}",
            ]), 0..30),
        ) {
            let _ = render(&text);
            let _ = render(&format!("{{{{{text}}}}}"));
            let _ = render(&parts.concat());
            let _ = render(&format!("{{{{{}}}}}", parts.join(" ")));
        }
    }
}
