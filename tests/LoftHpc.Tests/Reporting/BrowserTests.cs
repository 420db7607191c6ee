using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using LoftHpc.Results;
using SkiaSharp;
using Xunit;

namespace LoftHpc.Tests.Reporting;

/// <summary>A report in a real browser, without a screen: Debian's chromium, which build/setup.sh installs for the tests.</summary>
public sealed partial class BrowserTests : IDisposable
{
    private const int Phone = 390;
    private const int Desktop = 1200;

    private static readonly string[] Dense = ["dense"];

    private readonly ReportedRuns _runs = new();

    public void Dispose() => _runs.Dispose();

    /// <summary>
    /// The page in frames as wide as a phone and a desk's window, and what a script beside them measures. The page itself has no script.
    /// </summary>
    [Fact]
    public void It_fits_a_phone_and_nothing_overlaps()
    {
        string page = Write();
        string frames = System.IO.Path.Combine(System.IO.Path.GetDirectoryName(page)!, "frames.html");
        File.WriteAllText(frames, $$"""
            <!DOCTYPE html><meta charset="utf-8"><body>
            <iframe src="report.html" width="{{Phone}}" height="800"></iframe><iframe src="report.html" width="{{Desktop}}" height="800"></iframe><pre></pre>
            <script>
            console.error("canary");
            onload = () => {
                const measured = [...document.querySelectorAll("iframe")].map(frame => {
                    const page = frame.contentDocument, root = page.documentElement;
                    for (const details of page.querySelectorAll("details")) details.open = true;
                    const figures = [...page.querySelectorAll("figure svg[role=img]")], overlaps = [], outside = [], sizes = [];
                    for (const svg of figures) {
                        const box = svg.getBoundingClientRect();
                        const texts = [...svg.querySelectorAll("text")].map(text => ({ text: text.textContent, at: text.getBoundingClientRect() }));
                        sizes.push(...[...svg.querySelectorAll("text")].map(text => parseFloat(text.getAttribute("font-size")) * box.width / svg.viewBox.baseVal.width));
                        texts.forEach((one, i) => {
                            if (one.at.left < box.left - 1 || one.at.right > box.right + 1 || one.at.top < box.top - 1 || one.at.bottom > box.bottom + 1) outside.push(one.text);
                            // A letter's box is higher than the letter.
                            for (const other of texts.slice(i + 1))
                                if (one.at.left < other.at.right - 1 && other.at.left < one.at.right - 1 && one.at.top < other.at.bottom - 4 && other.at.top < one.at.bottom - 4) overlaps.push(one.text + " and " + other.text);
                        });
                    }
                    // The first line of the first figure, from 55 to 85 %, in units of what lies between the ticks of 60 and 80 %.
                    const first = figures[0], scale = first.getBoundingClientRect().width / first.viewBox.baseVal.width;
                    const tick = text => { const at = [...first.querySelectorAll("text")].find(label => label.textContent == text).getBoundingClientRect(); return (at.top + at.bottom) / 2; };
                    const rise = first.querySelector("path[stroke-width='1.75']").getBBox().height * scale / (tick("60") - tick("80"));
                    const wide = [...page.querySelectorAll("body *")].filter(element => !element.closest(".scroll") && !element.closest("svg *") && element.getBoundingClientRect().right > root.clientWidth + 1);
                    return {
                        width: root.clientWidth, scroll: root.scrollWidth, figures: figures.length, smallest: Math.min(...sizes), rise, overlaps, outside,
                        wide: wide.map(element => element.outerHTML.slice(0, 80)), hidden: figures.filter(svg => svg.getBoundingClientRect().height < 40).length,
                        loaded: frame.contentWindow.performance.getEntriesByType("resource").map(entry => entry.name),
                        cells: [...page.querySelectorAll("td")].map(cell => cell.innerText),
                    };
                });
                document.querySelector("pre").textContent = JSON.stringify(measured);
            };
            </script>
            """);
        (string dom, string[] console) = Browse(frames, "--dump-dom", "--hide-scrollbars", "--allow-file-access-from-files", "--virtual-time-budget=5000", $"--window-size={Desktop + Phone + 100},900");
        // The console is heard, and the page has nothing to say to it.
        Assert.Contains("canary", Assert.Single(console), StringComparison.Ordinal);
        Measured[] measured = JsonSerializer.Deserialize<Measured[]>(System.Net.WebUtility.HtmlDecode(Measurements().Match(dom).Groups[1].Value), JsonSerializerOptions.Web)!;
        Assert.Equal([Phone, Desktop], measured.Select(frame => frame.Width));
        Assert.All(measured, frame =>
        {
            Assert.Equal(frame.Width, frame.Scroll);
            Assert.Empty(frame.Wide);
            Assert.Empty(frame.Overlaps);
            Assert.Empty(frame.Outside);
            // Panels: accuracy; bytes and FLOPs; latency; bytes and purposes; three curves; three maps with a scale, twice; widths.
            Assert.Equal(1 + 2 + 1 + 2 + 3 + 3 + 3 + 1, frame.Figures);
            Assert.Equal(0, frame.Hidden);
            Assert.InRange(frame.Smallest, 8, 40);
            Assert.DoesNotContain(frame.Loaded, name => !name.StartsWith("data:", StringComparison.Ordinal));
            Assert.Equal(30 / 20.0, frame.Rise, 0.02);
            // What the reader sees are the numbers of metrics.csv.
            Assert.Contains("55.00 (50.00 to 60.00)", frame.Cells);
            Assert.Contains("84.00 (82.00 to 86.00)", frame.Cells);
        });
    }

    [Theory]
    [InlineData("light", 1, 0xf4, 0xf5, 0xf7, 0x00, 0x72, 0xb2)]
    [InlineData("dark", 0, 0x0e, 0x10, 0x13, 0x4f, 0xa8, 0xe8)]
    public void It_opens_without_errors_in_light_and_dark(string scheme, int preferred, byte pageRed, byte pageGreen, byte pageBlue, byte red, byte green, byte blue)
    {
        string page = Write(), shot = System.IO.Path.Combine(System.IO.Path.GetDirectoryName(page)!, $"{scheme}.png");
        (_, string[] console) = Browse(page, $"--screenshot={shot}", $"--blink-settings=preferredColorScheme={preferred.ToString(CultureInfo.InvariantCulture)}", "--hide-scrollbars", $"--window-size={Desktop},5000");
        Assert.Empty(console);
        using SKBitmap seen = SKBitmap.Decode(shot);
        Assert.Equal((Desktop, 5000), (seen.Width, seen.Height));
        Assert.Equal(new SKColor(pageRed, pageGreen, pageBlue), seen.GetPixel(2, 2));
        // Lines and marks of the second group are there in the scheme's colour.
        Assert.True(Count(seen, new SKColor(red, green, blue)) > 500, $"{Count(seen, new SKColor(red, green, blue))} pixels");
        // Cells of the heat-maps are not blurred: each has one colour, the largest distance Viridis' yellow.
        Assert.True(Count(seen, new SKColor(0xfd, 0xe7, 0x24)) > 5000, $"{Count(seen, new SKColor(0xfd, 0xe7, 0x24))} pixels");
    }

    private static int Count(SKBitmap bitmap, SKColor color) => bitmap.Pixels.Count(pixel => pixel == color);

    private string Write()
    {
        _runs.MakeAll();
        foreach (string name in (string[])["dense-1-1", "loft-2-1"])
        {
            RunFolder.At(_runs.File(name)).Latency.Write(
                [new(NetworkState.Ticket, MeasuredPass.Forward, 8, name.Length / 1000.0, 0.001, 0.002, 5, 1000, 600, 60)]);
        }
        return _runs.Write(baseline: Dense, margins: ["0.01"]);
    }

    /// <summary>What the browser writes, and what pages have said to its console.</summary>
    private (string Output, string[] Console) Browse(string file, params string[] options)
    {
        Assert.True(Repository.HasProgram("chromium"), "chromium is not installed; build/setup.sh test does it");
        // As root it has no sandbox, and in a container little shared memory.
        (int exitCode, string output, string error) = Repository.Run(
            "chromium",
            [
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", $"--user-data-dir={_runs.Beside("profile")}",
                "--enable-logging=stderr", "--v=0", .. options, $"file://{file}",
            ]);
        Assert.True(exitCode == 0, error);
        return (output, [.. error.Split('\n').Where(line => line.Contains("CONSOLE", StringComparison.Ordinal))]);
    }

    [GeneratedRegex("<pre>(.*?)</pre>", RegexOptions.Singleline)]
    private static partial Regex Measurements();

    private sealed record Measured(
        int Width, int Scroll, int Figures, double Smallest, double Rise, string[] Overlaps, string[] Outside, string[] Wide, int Hidden, string[] Loaded, string[] Cells);
}
