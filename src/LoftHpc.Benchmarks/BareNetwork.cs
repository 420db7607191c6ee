using LoftHpc.Networks;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace LoftHpc.Benchmarks;

/// <summary>PreActResNet-18 for small images in plain TorchSharp; parameters are named as in PyTorch.</summary>
internal sealed class BareNetwork : Module<Tensor, Tensor>
{
    private readonly Conv2d conv1;
    private readonly Sequential layer1, layer2, layer3, layer4;
    private readonly BatchNorm2d bn;
    private readonly Linear linear;

    public BareNetwork(int width) : base("preact_resnet18")
    {
        conv1 = Conv2d(3, width, 3, padding: 1, bias: false);
        layer1 = Stage(width, width, 1);
        layer2 = Stage(width, 2 * width, 2);
        layer3 = Stage(2 * width, 4 * width, 2);
        layer4 = Stage(4 * width, 8 * width, 2);
        bn = BatchNorm2d(8 * width);
        linear = Linear(8 * width, 10);
        RegisterComponents();
    }

    public override Tensor forward(Tensor input)
    {
        Tensor x = layer4.forward(layer3.forward(layer2.forward(layer1.forward(conv1.forward(input)))));
        x = bn.forward(x).relu_();
        return linear.forward(x.mean([2, 3]));
    }

    /// <summary>Starts from the same weights.</summary>
    public void CopyFrom(ModelState state)
    {
        using IDisposable frozen = no_grad();
        foreach ((string name, Parameter parameter) in named_parameters()) parameter.copy_(state[name]);
    }

    private static Sequential Stage(int inputs, int width, int stride) => Sequential(new Block(inputs, width, stride), new Block(width, width, 1));

    private sealed class Block : Module<Tensor, Tensor>
    {
        private readonly BatchNorm2d bn1, bn2;
        private readonly Conv2d conv1, conv2;
        private readonly Sequential? shortcut;

        public Block(int inputs, int width, int stride) : base("block")
        {
            bn1 = BatchNorm2d(inputs);
            conv1 = Conv2d(inputs, width, 3, stride: stride, padding: 1, bias: false);
            bn2 = BatchNorm2d(width);
            conv2 = Conv2d(width, width, 3, padding: 1, bias: false);
            if (stride != 1 || inputs != width) shortcut = Sequential(Conv2d(inputs, width, 1, stride: stride, bias: false));
            RegisterComponents();
        }

        public override Tensor forward(Tensor input)
        {
            Tensor active = bn1.forward(input).relu_();
            Tensor skipped = shortcut is null ? input : shortcut.forward(active);
            Tensor x = bn2.forward(conv1.forward(active)).relu_();
            return conv2.forward(x) + skipped;
        }
    }
}
